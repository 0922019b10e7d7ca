"""scripts/gpu.py on the processor, at small sizes, and what of a GPU's benchmark can be looked at
without a GPU."""

import importlib
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from places import ROOT, environment
from test_host import meta, on_meta  # noqa: F401

sys.path.insert(0, str(ROOT / "scripts"))
import gpu

from genpapers.companion import bench
from genpapers.nets.optim import adam, descend
from genpapers.train.loop import Training
from genpapers.train.specs import RunSpec

CPU = torch.device("cpu")
# the plain arms of the others wait for the host in every step, as published
NEVER_WAITING = dict.fromkeys(gpu.PAPERS, ("float32",)) | {"symvae": ("plain", "float32")}
# names of packages that an image with its own PyTorch may lack
LACKING = """pandas sklearn lightning_fabric papermill dask distributed jupyterlab ipykernel IPython
nbformat nbclient nbdev nbconvert seaborn matplotlib skimage pytorch_fid click rich ipywidgets"""
WITHOUT = """
import os, runpy, sys
from importlib.machinery import PathFinder
found = PathFinder.find_spec
PathFinder.find_spec = classmethod(
    lambda cls, name, *rest: None if name.partition(".")[0] in LACKING else found(name, *rest)
)
sys.argv = ["gpu.py", *sys.argv[1:]]
try:
    runpy.run_path("scripts/gpu.py", run_name="__main__")
except SystemExit as e:
    print(f"status {e.code}")
import torch
if not os.fork():  # could a process that is forked here still use a GPU?
    print(f"spoilt: {torch.cuda._is_in_bad_fork()}", flush=True)
    os._exit(0)
os.wait()
"""


@pytest.fixture
def machine(tmp_path):
    places = (tmp_path / name for name in ("scratch", "runs", "weights"))
    (tmp_path / "scratch").mkdir()
    return gpu.Machine("cpu", ("mnist_style",), *places, until=time.monotonic() + 60)


class Toy:
    "A linear model that learns from noise; a `scale` other than 1 is wrong, `_hidden` is not kept."

    def __init__(self, device: torch.device, scale: float):
        self.net, self.generator = torch.nn.Linear(3, 1).to(device), torch.Generator(device)
        self.optimizer, self._scale, self._hidden = adam(self.net.parameters(), 1e-2), scale, 0

    def step(self, batch: tuple) -> dict[str, torch.Tensor]:
        self._hidden += 1
        noise = torch.randn(4, 3, generator=self.generator)
        loss = (self.net(noise) - self._scale * self._hidden).square().mean()
        descend(loss, self.optimizer)
        return {"loss": loss.detach()}


built = []


def build(config: dict, context) -> Training:
    built.append(config)
    wrong = 1.01 if config.get("wrong") and len(built) % 2 == 0 else 1.0
    return Training(Toy(context.device, wrong), lambda t: (), config["niterations"])


def spec(**config) -> RunSpec:
    built.clear()
    return RunSpec("toy", "toy", "test_gpu_script:build", {"niterations": 6} | config)


@pytest.mark.parametrize("paper", gpu.PAPERS)
def test_no_arm_of_a_benchmark_mixes_devices(paper, meta):  # noqa: F811
    arms = importlib.import_module(f"genpapers.{paper}.bench").arms(**gpu.small_sizes(paper))
    for name in NEVER_WAITING[paper]:
        arms[name]()  # what the first step decides is decided
        on_meta(arms[name], {})()


def test_a_step_on_a_card_is_timed_by_its_events(monkeypatch):
    course = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        record = lambda self: course.append("mark")
        synchronize = lambda self: course.append("wait for the mark")
        elapsed_time = lambda self, end: 250.0  # ms

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "device", lambda device: torch.no_grad())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: course.append("wait"))
    assert bench._seconds(lambda: course.append("step"), torch.device("cuda")) == 0.25
    assert course == ["wait", "mark", "step", "mark", "wait for the mark"]


def test_whatever_is_drawn_is_drawn_alike():
    def draws(seed: int) -> list[torch.Tensor]:
        g = torch.Generator().manual_seed(seed)
        torch.manual_seed(0)
        with gpu.OneNoise():
            drawn = [torch.rand(3, generator=g), torch.randperm(9, generator=g), torch.randn(2)]
            drawn.append(torch.empty(3).exponential_(generator=g))
            return drawn + [torch.rand_like(drawn[0]), torch.dropout(torch.ones(9), 0.5, True)]

    assert all(torch.equal(a, b) for a, b in zip(draws(1), draws(2)))
    assert len(set(draws(1)[3].tolist())) == 3  # drawn in place


def test_steps_that_agree_and_one_that_is_wrong():
    assert gpu.compare_steps(spec(), CPU)["state"] == "done"
    found = gpu.compare_steps(spec(wrong=True), CPU)
    assert found["state"] == "differs" and float(found["terms"]) > gpu.TERMS


def test_a_state_that_is_not_kept_is_found(machine, monkeypatch):
    found = gpu.compare_resumed(spec(), CPU, machine.scratch)
    assert found["why"] == "a repetition has the same bits"
    step = Toy.step
    monkeypatch.setattr(Toy, "step", lambda self, batch: step(self, setattr(self, "_hidden", 0)))
    assert gpu.compare_resumed(spec(), CPU, machine.scratch) == {"resumed": "the same bits"}


def test_kept_weights_come_back(machine):
    asked = gpu.ladder_plan(machine)[0]
    learner = gpu.build(asked, gpu.Context(CPU, None, {}, asked.seed)).model
    with torch.no_grad():
        next(learner.model.parameters()).add_(1)
    name = gpu.keep_weights(SimpleNamespace(spec=asked, key="", model=learner), machine.scratch)
    found, model = gpu.kept_model(machine.scratch / name, CPU)
    assert found == asked
    assert all(map(torch.equal, model.state_dict().values(), learner.model.state_dict().values()))


def test_what_needs_a_failed_training_is_left_out(machine):
    bad = replace(spec(), name="bad", entry="test_gpu_script:nothing")
    after = replace(spec(), name="after", needs=("bad",))
    rows = list(gpu.smoke_runs([bad, after, spec()], machine))
    assert [row["state"] for row in rows] == ["failed", "not tried", "done"]
    assert "AttributeError" in rows[0]["why"] and "Traceback" in rows[0]["trace"]


def _hang(send) -> None:
    send.send(1)
    time.sleep(60)


def _die(send) -> None:
    os._exit(3)


def test_a_part_that_hangs_or_dies_is_ended():
    heard, start = [], time.monotonic()
    assert gpu.ask(_hang, until=start + 0.5, hear=heard.append) == "out of time"
    assert heard == [1] and time.monotonic() - start < 10
    assert gpu.ask(_die, until=start + 60, hear=heard.append) == "died with status 3"


def test_a_card_that_is_not_there_is_one_sentence():
    heard = []
    missing = gpu.Machine("cuda:99", (), Path(), Path(), Path())
    gpu.ask(gpu.facts_of, missing, until=time.monotonic() + 60, hear=heard.append)
    assert "cuda:99" in heard[0]["why"]


def test_packages_that_are_absent_have_stand_ins():
    finder = gpu.StandIns()
    module = importlib.util.module_from_spec(finder.find_spec("pandas"))
    finder.exec_module(module)
    with pytest.raises(ImportError, match="pandas is not installed, and DataFrame was called"):
        module.DataFrame()
    assert finder.find_spec("numpy") is None and not hasattr(module, "__nothing__")


def test_all_parts_without_what_an_image_may_lack(tmp_path):
    "Where the machine is slow a part may run out of time; none fails."
    words = ["--device", "cpu", "--seconds", "30", "--papers", "mnist_style", "--out", tmp_path]
    code = f"LACKING = {LACKING.split()}\n{WITHOUT}"
    command = [sys.executable, "-c", code, *words]
    env = environment(PYTHONPATH=str(ROOT))
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert "status 0\nspoilt: False" in done.stdout, done.stdout + done.stderr
    record = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert [part["part"] for part in record["parts"]] == list(gpu.PARTS)
    assert {part["state"] for part in record["parts"]} <= {"done", "out of time"}
    assert all(part["rows"] for part in record["parts"] if part["state"] == "done")
    assert record["device"]["type"] == "cpu" and "Speed of a step" in done.stdout

"""Trainings that are killed, stopped, wanted twice, damaged or finished."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import toy_training
from places import ROOT, environment
from states import same
from toy_training import settings, spec, train

from genpapers.train import runs
from genpapers.train.checkpoint import CheckpointError, load_state
from genpapers.train.runs import ensure
from genpapers.train.specs import RunSpec, code_of, finished_seconds


def start(action: str, folder: Path) -> subprocess.Popen:
    command = [sys.executable, ROOT / "tests" / "toy_training.py", action, str(folder)]
    heard = lambda: signal.signal(
        signal.SIGINT, signal.SIG_DFL
    )  # whatever a shell in the background has set
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment(measured=False), preexec_fn=heard, **streams
    )


def answer(action: str, folder: Path):
    process = start(action, folder)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


def only(folder: Path, pattern: str) -> Path:
    found = list(folder.glob(pattern))
    assert len(found) == 1, found
    return found[0]


def test_killed_at_any_moment(tmp_path):
    found = answer("kill", tmp_path)
    saved = found["saved"]
    assert len(saved) >= toy_training.KILLS and found["status"] == 0, found
    assert saved == sorted(saved) and sum(step > 0 for step in saved) >= 10, saved
    assert found["torn"] >= 3, "too few were killed while they wrote a checkpoint"
    whole, killed = (
        only(tmp_path / name, "toy/toy-*/done.json").parent for name in ("whole", "killed")
    )
    assert whole.name == killed.name
    states = [load_state(f / "checkpoint.safetensors") for f in (whole, killed)]
    for part in ("step", "model", "averages", "random"):
        assert same(states[0][part], states[1][part]), part
    assert states[0]["step"] == toy_training.LONG
    assert (whole / "metrics.csv").read_bytes() == (killed / "metrics.csv").read_bytes()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_by_a_signal(tmp_path, number):
    process, deadline = start("long", tmp_path), time.monotonic() + 120
    while (
        not list(tmp_path.glob("toy/toy-*/checkpoint.safetensors")) and time.monotonic() < deadline
    ):
        time.sleep(0.05)
    before = load_state(only(tmp_path, "toy/toy-*/checkpoint.safetensors"))["step"]
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == (143 if number == signal.SIGTERM else -signal.SIGINT)
    assert load_state(only(tmp_path, "toy/toy-*/checkpoint.safetensors"))["step"] >= before
    assert not list(tmp_path.glob("toy/toy-*/done.json"))


def test_two_processes_want_the_same_run(tmp_path):
    assert sorted(answer("pair", tmp_path)) == [False, True]
    assert finished_seconds(only(tmp_path, "toy/toy-*/done.json").parent) > 0


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("damage", [truncate, flip_a_bit])
def test_damaged_checkpoint(tmp_path, damage, finished):
    folder = train(tmp_path, 20).folder
    damage(folder / "checkpoint.safetensors")
    if not finished:
        (folder / "done.json").unlink()
    with pytest.raises(CheckpointError, match="checkpoint.safetensors"):
        train(tmp_path, 20)


def forbidden(*_, **__):
    raise AssertionError("a finished run is trained again")


def test_finished_run_is_reused(tmp_path, monkeypatch):
    first = train(tmp_path, 20)
    assert not first.reused
    monkeypatch.setattr(runs, "fit", forbidden)
    second = train(tmp_path, 20)
    assert (
        second.reused
        and second.key == first.key
        and second.seconds == pytest.approx(first.seconds, abs=1e-3)
    )
    assert same(dict(first.model.net.state_dict()), dict(second.model.net.state_dict()))
    for change in (spec(21), spec(20, seed=1)):
        with pytest.raises(AssertionError, match="trained again"):
            ensure(change, settings(tmp_path))
    with pytest.raises(AssertionError, match="trained again"):
        ensure(spec(20), settings(tmp_path, force=True))


ENTRY = '''"""The entry."""
from .layers import width


def build(config, context):
    import toy_training

    assert width() > 0
    return toy_training.build(config, context)
'''
LAYERS = '''"""What the entry uses."""


def width():
    return 8
'''


@pytest.fixture
def toy_package(tmp_path, monkeypatch):
    "A package whose entry module uses a function of another module."
    folder = tmp_path / "code" / "toy_package"
    folder.mkdir(parents=True)
    for name, text in (("__init__", ""), ("entry", ENTRY), ("layers", LAYERS), ("unused", LAYERS)):
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(folder.parent)
    yield folder
    for name in [m for m in sys.modules if m.partition(".")[0] == "toy_package"]:
        del sys.modules[name]
    code_of.cache_clear()


@pytest.mark.parametrize(
    ("file", "old", "new", "reused"),
    [
        ("layers", "return 8", "return 9", False),
        ("layers", "return 8", "return 8  # as wide as it is", True),
        ("layers", '"""What the entry uses."""', '"""Other words."""', True),
        ("entry", "width() > 0", "width() > 1", False),
        ("unused", "return 8", "return 9", True),
    ],
)
def test_changed_code_is_another_run(tmp_path, monkeypatch, toy_package, file, old, new, reused):
    toy = RunSpec("toy", "toy", "toy_package.entry:build", {"niterations": 10, "seed": 0})
    code_of.cache_clear()
    first = ensure(toy, settings(tmp_path / "runs"))
    path = toy_package / f"{file}.py"
    path.write_text(path.read_text().replace(old, new))
    code_of.cache_clear()
    if reused:
        monkeypatch.setattr(runs, "fit", forbidden)
    second = ensure(toy, settings(tmp_path / "runs"))
    assert second.reused == reused and (second.key == first.key) == reused

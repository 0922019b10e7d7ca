"""What a GPU makes of the project, in one call below eight minutes: `python scripts/gpu.py`.

It trains every paper at smoke, compares steps on the processor and on the card, interrupts and
resumes, times the steps of all papers, as they are and captured, and learns mnist-ladder of symvae
by both rules in the time that is left. Each part is a process of its own: one that fails, hangs or
dies is reported, and the next one begins. A table ends it; figures/gpu/gpu.json keeps it, part by
part.

It needs PyTorch with its torchvision and what NEEDED names, and no notebook software. With
`--device cpu --seconds 60` it runs anywhere, at small sizes, and keeps nothing unless told where.
"""

import argparse
import copy
import importlib.util
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from itertools import zip_longest
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
NEEDED = ("torch", "torchvision", "numpy", "scipy", "safetensors", "tqdm", "filelock", "mlxtend")


class StandIns(MetaPathFinder, Loader):
    "Empty modules for packages that are absent, and that a training names and never calls."

    names = ("pandas", "lightning_fabric", "sklearn")

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        stands_in = name.partition(".")[0] in self.names
        return ModuleSpec(name, self, is_package=True) if stands_in else None

    def exec_module(self, module: object) -> None:
        def absent(name: str) -> type:
            if name.startswith("__"):
                raise AttributeError(name)

            def refuse(*args: object, **kwargs: object) -> None:
                raise ImportError(f"{module.__name__} is not installed, and {name} was called")

            return type(name, (), {"__init__": refuse})

        module.__getattr__ = absent


sys.meta_path.append(StandIns())  # the last: what is installed is found before
if absent := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
    sys.exit(f"not installed: {', '.join(absent)}; pip install --no-deps {' '.join(absent)}")

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from genpapers.base.code import entry_of
from genpapers.base.files import UserError, digest_of, file_digest, read_json, write_json
from genpapers.base.paper import PAPERS, find_paper
from genpapers.base.parameters import completed, declared_parameters
from genpapers.companion.bench import compare, measure
from genpapers.data.sources import presence
from genpapers.train.capture import CapturedStep, CudaGraph, Tape
from genpapers.train.checkpoint import (
    flatten,
    load_state,
    restore,
    save_state,
    state_digest,
    state_of,
)
from genpapers.train.devices import autocast, resolve_device
from genpapers.train.loop import Training, fit
from genpapers.train.runs import RunSettings, ensure, resolve_precision
from genpapers.train.specs import Context, Run, RunSpec, build, spec_from_values

Row = dict[str, object]


@dataclass(frozen=True)
class Machine:
    "What is asked, of which device, for how long."

    device: str
    papers: tuple[str, ...]
    scratch: Path  # is removed at the end
    runs_dir: Path  # of the last part
    weights_dir: Path  # receives what the last part has learned
    until: float = 0.0  # by time.monotonic: when the present part must have ended

    @property
    def small(self) -> bool:
        "A trial on the processor, at small sizes."
        return self.device == "cpu"

    def left(self) -> float:
        "Seconds that the present part has left."
        return self.until - time.monotonic()


def plan_of(paper: str, scale: str, **given: object) -> list[RunSpec]:
    "The trainings of a paper at a scale."
    page = find_paper(paper)
    declared = declared_parameters(page, ROOT)
    return entry_of(page.plan)(completed(page, declared, {"scale": scale} | given))


def attempt(facts: Row, work: Callable[[], Row]) -> Row:
    "A row of facts and of what the work found, or of why it failed."
    start = time.monotonic()
    try:
        found = {"state": "done"} | work()
    except Exception as e:
        why = " ".join(f"{type(e).__name__}: {e}".split())[:300]
        found = {"state": "failed", "why": why, "trace": traceback.format_exc()}
    return facts | found | {"seconds": round(time.monotonic() - start, 2)}


# every paper at smoke


def smoke(machine: Machine) -> Iterator[Row]:
    "Every training of every paper at smoke."
    for paper in machine.papers:
        row = attempt({"paper": paper}, lambda paper=paper: {"plan": plan_of(paper, "smoke")})
        yield from smoke_runs(row.pop("plan"), machine) if "plan" in row else [row]


def smoke_runs(plan: list[RunSpec], machine: Machine) -> Iterator[Row]:
    "The trainings of a plan, those left out that need one that has failed."
    settings, runs = RunSettings(machine.scratch, device=machine.device), {}

    def train(spec: RunSpec) -> Row:
        runs[spec.name] = ensure(spec, settings, runs)
        return {}

    for spec in plan:
        facts = {"paper": spec.paper, "run": spec.name, "steps": spec.config["niterations"]}
        if lacking := [name for name in spec.needs if name not in runs]:
            yield facts | {"state": "not tried", "why": f"needs {', '.join(lacking)}"}
        else:
            yield attempt(facts, lambda spec=spec: train(spec))


# the same steps on the processor and on the card


class OneNoise(TorchDispatchMode):
    "Whatever is drawn, on any device and by any generator, comes from the processor's generator."

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        device = next((x.device for x in args if isinstance(x, Tensor)), kwargs.get("device"))
        for name in {"generator", "device"} & kwargs.keys():
            kwargs[name] = None
        drawn = func(*(x.cpu() if isinstance(x, Tensor) else x for x in args), **kwargs)
        if func._schema.is_mutable:
            return args[0].copy_(drawn)
        moved = [x.to(device) for x in (drawn if isinstance(drawn, tuple) else (drawn,))]
        return tuple(moved) if isinstance(drawn, tuple) else moved[0]


STEPS = 20
# Relative, see `compare_steps`. Weights that are disturbed by a rounding change terms by 1e-6 at
# most, but updates by up to 0.05: Adam divides by the size of a gradient, and where that is nothing
# but rounding, so is the direction of the update. What is wrong changes an update by its length.
TERMS, UPDATE = 1e-4, 0.25


def without_generators(model: object) -> dict:
    "A copy of a model's state, its generators left out: they differ between devices."
    state = {k: s for k, s in state_of(model).items() if not is_generator(getattr(model, k))}
    return copy.deepcopy(state)


def is_generator(value: object) -> bool:
    "Whether a value draws random numbers."
    return isinstance(value, torch.Generator)


def weights_of(model: object) -> Tensor:
    "All parameters of a model's networks, as one vector, float64 on the processor."
    networks = [v for v in vars(model).values() if isinstance(v, torch.nn.Module)]
    parts = [p.detach().reshape(-1).double().cpu() for net in networks for p in net.parameters()]
    return torch.cat(parts)


def one_step(
    training: Training, t: int, device: torch.device, plainly: bool = False
) -> tuple[dict[str, Tensor], Tensor]:
    "The terms of step t and the change of the weights; `plainly`: without oneDNN."
    batch, before = training.batches(t), weights_of(training.model)
    torch.manual_seed(t)
    with torch.backends.mkldnn.flags(enabled=False) if plainly else nullcontext():
        with autocast("float32", device), OneNoise():
            terms = training.model.step(batch)
    terms = {k: v.detach().double().cpu() for k, v in terms.items()}
    return terms, weights_of(training.model) - before


def compare_steps(spec: RunSpec, device: torch.device) -> Row:
    """Steps on the processor and on a device, each from the same state; a processor's second step
    is one without oneDNN.

    Terms: the largest difference, relative to the largest value that the term has had. Update: the
    length of the difference, relative to the length of the processor's update; the largest."""
    cpu = torch.device("cpu")
    here, there = (build(spec, Context(d, None, {}, spec.seed)) for d in (cpu, device))
    largest, terms, update = {}, 0.0, 0.0
    for t in range(STEPS):
        restore(there.model, without_generators(here.model))
        (a, da), (b, db) = one_step(here, t, cpu), one_step(there, t, device, device.type == "cpu")
        for name in a:
            largest[name] = max(largest.get(name, 1e-3), abs(a[name].item()))
            terms = max(terms, abs((a[name] - b[name]).item()) / largest[name])
        update = max(update, ((da - db).norm() / da.norm().clamp_min(1e-12)).item())
    state = "done" if terms <= TERMS and update <= UPDATE else "differs"
    return {"state": state, "steps": STEPS, "terms": f"{terms:.1e}", "update": f"{update:.1e}"}


def independent(machine: Machine, scale: str = "smoke") -> list[tuple[str, RunSpec]]:
    "Trainings at a scale that need no other: the first of every paper, then the second, ..."
    plans = []
    for paper in machine.papers:
        with suppress(Exception):  # is told by the first part
            plans.append([(paper, s) for s in plan_of(paper, scale) if not s.needs])
    return [pair for pairs in zip_longest(*plans) for pair in pairs if pair]


def agreement(machine: Machine) -> Iterator[Row]:
    "Twenty steps on the processor and on the device, from the same state, in float32."
    torch.backends.cudnn.allow_tf32 = False
    for paper, spec in independent(machine):
        facts = {"paper": paper, "run": spec.name}
        yield attempt(facts, lambda spec=spec: compare_steps(spec, resolve_device(machine.device)))


# interrupted and resumed


class Interruption(Exception):
    "Not a mistake."


def train_into(folder: Path, spec: RunSpec, device: torch.device, stop: int | None = None) -> None:
    "A training at float32, with a checkpoint after every step if it is to stop before step `stop`."
    training = build(spec, Context(device, None, {}, spec.seed))
    batches = training.batches

    def interrupted(t: int) -> tuple:
        if t == stop:
            raise Interruption
        return batches(t)

    every = 60.0 if stop is None else 0.0
    try:
        fit(replace(training, batches=interrupted), folder, "float32", device, every)
    except Interruption:
        pass


def digest_of_state(state: object) -> str:
    "Digest of a state as checkpoints hold it."
    tensors = {}
    return state_digest(json.dumps(flatten(state, tensors)), tensors)


def outcome_of(folder: Path) -> str:
    "Digest of all that a training has left, its seconds apart."
    state = load_state(folder / "checkpoint.safetensors")
    del state["seconds"]
    return digest_of(digest_of_state(state), file_digest(folder / "metrics.csv"))


def compare_resumed(spec: RunSpec, device: torch.device, scratch: Path) -> Row:
    "Once through, and stopped half way and resumed; where they differ, also once more through."
    with tempfile.TemporaryDirectory(dir=scratch) as name:
        whole, parted, again = (Path(name) / n for n in ("whole", "parted", "again"))
        train_into(whole, spec, device)
        train_into(parted, spec, device, stop=max(1, spec.config["niterations"] // 2))
        train_into(parted, spec, device)
        if outcome_of(parted) == outcome_of(whole):
            return {"resumed": "the same bits"}
        train_into(again, spec, device)
        same = outcome_of(again) == outcome_of(whole)
    why = "a repetition has the same bits" if same else "a repetition differs as well"
    return {"state": "differs", "resumed": "other bits", "why": why}


def resumed(machine: Machine) -> Iterator[Row]:
    "Interrupted and resumed beside uninterrupted, bit for bit."
    device = resolve_device(machine.device)
    for paper, spec in independent(machine):
        facts = {"paper": paper, "run": spec.name}
        yield attempt(facts, lambda spec=spec: compare_resumed(spec, device, machine.scratch))


# speed


def small_sizes(paper: str) -> Row:
    "The arguments of a benchmark's arms that make them small."
    if paper == "nfpi":
        from genpapers.nfpi.flow import FlowConfig

        one = dict.fromkeys(("num_flows", "num_blocks"), (1, 1, 1))
        return {"config": FlowConfig(channels=1, hidden=(8, 8, 8), **one), "batch_size": 2}
    sizes = {
        "amr": {"nfeatures": 4},
        "flics_digits": {"nz0": 3, "nz1": 4, "hidden": 8, "n": 2},
        "flics_fashion": {"strengths": 2},
        "polymnist": {"nz": 4, "ny": 5, "n": 3, "rounds": 2},
        "symvae": {"channels": 2, "width": 8},
    }
    return {"batch_size": 4} | sizes.get(paper, {})


def bench(machine: Machine) -> Iterator[Row]:
    "A step of every paper, plain and ours in two precisions; see `genpapers bench`."

    def records(paper: str) -> Row:
        if machine.small:
            return {"records": measure(paper, machine.device, **small_sizes(paper))}
        torch.cuda.reset_peak_memory_stats(machine.device)
        found = measure(paper, machine.device)
        memory = {"gb of all arms": torch.cuda.max_memory_allocated(machine.device) / 1e9}
        return {"records": [record | memory for record in found]}

    for paper in machine.papers:
        row = attempt({"paper": paper}, lambda paper=paper: records(paper))
        found = row.pop("records", [{}])
        yield from (row | record for record in found)


# captured steps

Step = Callable[[tuple[Tensor, ...]], dict[str, Tensor]]


def step_of(model: object, device: torch.device, precision: str) -> Step:
    "A model's step in a precision."

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        with autocast(precision, device):
            return model.step(batch)

    return step


def captured_step(model: object, step: Step, device: torch.device, paper: str) -> CapturedStep:
    "A paper's step as graphs; on a processor as tapes."
    phase = getattr(import_module(f"genpapers.{paper}.bench"), "phase", lambda model: 0)
    generators = [v for v in vars(model).values() if is_generator(v) and v.device.type == "cuda"]
    graph = Tape if device.type == "cpu" else lambda: CudaGraph(generators)
    return CapturedStep(model, step, graph, phase)


def differing(one: object, two: object, terms: list[dict[str, Tensor]]) -> str:
    "What differs between two models after a step of each, in words; empty: nothing."
    plain, captured = terms
    if other := [name for name in plain if not torch.equal(plain[name], captured[name])]:
        return ", ".join(other)
    here, there = (digest_of_state(state_of(model)) for model in (one, two))
    return "" if here == there else "the state"


def compare_captured(spec: RunSpec, device: torch.device, precision: str, most: int = 200) -> Row:
    "Steps as they are and captured, from one state, until `STEPS` are captured, or the most."
    trainings = [build(spec, Context(device, None, {}, spec.seed)) for _ in range(2)]
    models = [training.model for training in trainings]
    steps = [step_of(model, device, precision) for model in models]
    steps[1] = captured_step(models[1], steps[1], device, spec.paper)
    for t in range(most):
        terms = []
        for training, step in zip(trainings, steps):
            torch.manual_seed(t)
            terms.append(step(training.batches(t)))
        if other := differing(*models, terms):
            return {"state": "differs", "why": f"other bits at step {t}: {other}"}
        if steps[1].captured == STEPS:
            break
    found = {"captured": f"{steps[1].captured} of {t + 1} steps, the same bits"}
    if device.type == "cpu":
        return found
    return found | times_of(*steps, trainings[0].batches(0), device)


def times_of(plain: Step, captured: Step, batch: tuple[Tensor, ...], device: torch.device) -> Row:
    "Milliseconds of a step as it is and captured, in turn."
    arms = {"plain": lambda: plain(batch), "captured": lambda: captured(batch)}
    found = compare(arms, len(batch[0]), device)[1]
    return {"ms": found["ms_plain"], "ms captured": found["ms"]}


def capture(machine: Machine) -> Iterator[Row]:
    "Every paper's steps, captured beside steps as they are: the same bits, and the times."
    device = resolve_device(machine.device)
    scale = "smoke" if machine.small else "quick"
    precisions = ("float32",) if machine.small else ("bfloat16", "float32")
    for paper, spec in independent(machine, scale):
        for precision in precisions:
            facts = {"paper": paper, "run": spec.name, "precision": precision}
            yield attempt(facts, partial(compare_captured, spec, device, precision))


# mnist-ladder


def ladder_plan(machine: Machine, **given: object) -> list[RunSpec]:
    "mnist-ladder of symvae by both rules, as published; small on a processor."
    digits = "mnist" if presence("mnist")[0] == "present" else "mnist5k"
    scale = "smoke" if machine.small else "paper"
    given |= {"experiments": ["mnist-ladder"], "seeds": 1, "anneal_steps": 0}
    return plan_of("symvae", scale, digits=digits, **given)


def seconds_of_step(spec: RunSpec, device: torch.device, precision: str, seconds: float) -> float:
    "Of one step, from as many as fit into `seconds`, after a few that are not counted."
    training = build(spec, Context(device, None, {}, spec.seed))
    step = step_of(training.model, device, precision)

    def steps(count: int) -> None:
        for t in range(count):
            terms = step(training.batches(t))
        next(iter(terms.values())).item()  # waits for the device

    steps(3)
    start, count = time.monotonic(), 0
    while time.monotonic() - start < seconds:
        steps(10)
        count += 10
    return (time.monotonic() - start) / count


def last_metrics(run: Run) -> dict[str, float]:
    "The last value of each metric."
    lines = (run.folder / "metrics.csv").read_text(encoding="utf-8").splitlines()[1:]
    return {name: float(value) for _, name, value in (line.split(",") for line in lines)}


def keep_weights(run: Run, folder: Path) -> str:
    "Write the model and the specification of a run to one file of a folder; its name."
    name = f"{run.spec.paper}-{run.spec.name}.safetensors"
    state = {"spec": asdict(run.spec), "key": run.key, "model": run.model.model.state_dict()}
    save_state(folder / name, state)
    return name


def ladder(machine: Machine) -> Iterator[Row]:
    "mnist-ladder by both rules, as many steps as the time allows; what they learned is kept."
    device, settings = resolve_device(machine.device), RunSettings(machine.runs_dir)
    first = ladder_plan(machine)
    context = Context(device, None, {}, first[0].seed)
    precision = resolve_precision(first[0], context, settings)
    share = machine.left() / len(first)
    slowest = max(seconds_of_step(s, device, precision, 0.05 * share) for s in first)
    steps = max(1, min(first[0].config["niterations"], int(0.75 * share / slowest)))
    settings = replace(settings, device=machine.device, precision=precision)
    for spec in ladder_plan(machine, niterations=steps):
        facts = {"run": spec.name, "data": spec.config["data"], "steps": steps}

        def train(spec: RunSpec = spec) -> Row:
            run = ensure(spec, settings)
            per_step = run.seconds / steps
            speed = {"ms": 1e3 * per_step, "images/s": spec.config["batch_size"] / per_step}
            kept = {"weights": keep_weights(run, machine.weights_dir), "metrics": last_metrics(run)}
            return {"precision": precision, "batch": spec.config["batch_size"]} | speed | kept

        yield attempt(facts, train)


# part by part


@dataclass(frozen=True)
class Part:
    "One question."

    title: str
    rows: Callable[[Machine], Iterator[Row]]
    until: float  # share of the whole time after which it must have ended


PARTS = {
    "smoke": Part("Every training at smoke", smoke, 0.35),
    "agreement": Part("Twenty steps on processor and device", agreement, 0.5),
    "resumed": Part("Interrupted and resumed", resumed, 0.6),
    "bench": Part("Speed of a step", bench, 0.72),
    "capture": Part("Captured steps", capture, 0.85),
    "ladder": Part("mnist-ladder in the time that was left", ladder, 0.98),
}


def answer(part: str, machine: Machine, send: Connection) -> None:
    "In a process of its own: send the rows of a part."
    os.environ["TQDM_DISABLE"] = "1"
    try:
        for row in PARTS[part].rows(machine):
            send.send(row)
    except Exception as e:
        why = f"{type(e).__name__}: {e}"[:300]
        send.send({"state": "failed", "why": why, "trace": traceback.format_exc()})


def facts_of(machine: Machine, send: Connection) -> None:
    "In a process of its own: send what device and software there are, or why there is none."
    try:
        device = resolve_device(machine.device)
    except UserError as e:
        return send.send({"why": str(e)})
    facts = {"type": device.type, "name": platform.processor() or platform.machine()}
    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        facts["name"], facts["capability"] = found.name, f"{found.major}.{found.minor}"
        facts |= {"gb": found.total_memory / 1e9, "cuda": torch.version.cuda}
        facts["cudnn"] = torch.backends.cudnn.version()
    send.send(facts | {"torch": torch.__version__, "python": platform.python_version()})


def ask(
    work: Callable[..., None], *arguments: object, until: float, hear: Callable[[Row], None]
) -> str:
    "Let a process work, `hear` what it sends; done, out of time, or how it died."
    fork = multiprocessing.get_context("fork")  # nothing here has touched the device
    receive, send = fork.Pipe(duplex=False)
    process = fork.Process(target=work, args=(*arguments, send))
    process.start()
    send.close()
    state = "out of time"
    try:
        while receive.poll(max(0.0, until - time.monotonic())):
            hear(receive.recv())
    except EOFError:
        process.join()
        state = "done" if process.exitcode == 0 else f"died with status {process.exitcode}"
    process.terminate()  # a training saves and ends
    process.join(5)
    process.kill()
    process.join()
    return state


def text_of(value: object) -> str:
    "A table's cell."
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def table(rows: list[Row]) -> str:
    "Rows as text; nested values and traces are left to the JSON file."
    names = list(dict.fromkeys(k for row in rows for k in row if k not in ("trace", "metrics")))
    cells = [names] + [[text_of(row.get(name, "")) for name in names] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths)).rstrip() for row in cells)


def commit() -> str:
    "The commit of the checkout; empty where there is none."
    command = ["git", "-C", ROOT, "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""


def answers(machine: Machine, seconds: float, out: Path | None) -> dict:
    "All parts; what is known is written to `out` after each."
    start, found = time.monotonic(), []
    state = ask(facts_of, machine, until=start + 60, hear=found.append)
    if not found or "why" in found[0]:
        sys.exit(found[0]["why"] if found else f"{machine.device} gave no answer ({state})")
    record = {"device": found[0], "commit": commit(), "parts": []}
    for name, part in PARTS.items():
        rows, begin, until = [], time.monotonic(), start + part.until * seconds

        def hear(row: Row, rows: list[Row] = rows) -> None:
            rows.append(row)
            print(".", end="", flush=True)

        print(f"\n{part.title} ", end="", flush=True)
        state = ask(answer, name, replace(machine, until=until), until=until, hear=hear)
        took = round(time.monotonic() - begin, 1)
        facts = {"part": name, "title": part.title, "state": state, "seconds": took}
        record["parts"].append(facts | {"rows": rows})
        record["seconds"] = round(time.monotonic() - start, 1)
        if out:
            write_json(out / "gpu.json", record)
    return record


def summary(record: dict) -> str:
    "All tables."
    texts = [f"{record['device']}\n{record['seconds']} s in all"]
    for part in record["parts"]:
        head = f"{part['title']}: {part['state']}, {part['seconds']} s"
        texts.append(f"{head}\n{table(part['rows'])}")
    return "\n\n".join(texts)


def failures(record: dict) -> list[Row]:
    "Rows that are not as they should be."
    return [row for part in record["parts"] for row in part["rows"] if row["state"] != "done"]


# afterwards, anywhere


def kept_model(file: Path, device: torch.device) -> tuple[RunSpec, torch.nn.Module]:
    "The specification and the model that `keep_weights` has written."
    kept = load_state(file)
    spec = spec_from_values(kept["spec"])
    model = build(spec, Context(device, None, {}, spec.seed)).model.model
    return spec, restore(model, kept["model"])


def score(file: Path, images: int, device: torch.device) -> Row:
    """FID (where the weights of Inception are) and cFID of a kept model, from so many images.

    Needs a whole installation."""
    from genpapers.data.sources import load
    from genpapers.metrics.fid import find_inception, inception_folder
    from genpapers.symvae.scores import make_judges, scores

    spec, model = kept_model(file, device)
    folder = inception_folder()
    inception, sentence = find_inception(folder, images, device)
    print(sentence)
    preset = find_paper(spec.paper).scales["paper"]
    counts = {"score_images": images, "fid_images": images, "judge_steps": preset["judge_steps"]}
    asked = SimpleNamespace(**counts, seed=spec.seed)
    data = load(spec.config["data"], "all")
    judges, accuracy = make_judges(model, data, inception, asked, folder)
    by_kind, _ = scores(model, judges, preset["chain_steps"], spec.seed)
    row = {"run": spec.name, "images": images, "accuracy of the judge": accuracy}
    for kind, by_judge in by_kind.items():
        row |= {f"{judge} {kind}": found["value"] for judge, found in by_judge.items()}
    return row


def add_scores(files: list[Path], images: int, device: str, out: Path) -> None:
    "Score kept models, and add the scores to gpu.json."
    rows = [score(file, images, resolve_device(device)) for file in files]
    write_json(out / "gpu.json", read_json(out / "gpu.json") | {"scores": rows})
    print(table(rows))


def main(words: list[str] | None = None) -> None:
    "Ask, write, show; status 1 if a row is not done."
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu (a trial)")
    parser.add_argument("--seconds", type=float, default=450.0, help="of all parts together")
    parser.add_argument("--papers", nargs="+", default=PAPERS, choices=PAPERS)
    parser.add_argument("--out", type=Path, help="folder of gpu.json; default: figures/gpu")
    parser.add_argument("--runs-dir", type=Path, help="of the last part; default: runs")
    parser.add_argument("--weights", type=Path, help="folder of weights; default: runs/gpu")
    parser.add_argument("--score", nargs="+", type=Path, metavar="FILE", help="of kept weights")
    parser.add_argument("--images", type=int, default=70_000, help="to score")
    told = parser.parse_args(words)
    told.out, told.score = told.out and told.out.resolve(), [f.resolve() for f in told.score or ()]
    places = [p and p.resolve() for p in (told.runs_dir, told.weights)]
    os.chdir(ROOT)
    if told.score:
        out = told.out or ROOT / "figures" / "gpu"
        return add_scores(told.score, told.images, told.device, out)
    with tempfile.TemporaryDirectory() as scratch:
        trial = told.device == "cpu"
        runs_dir = places[0] or (Path(scratch) if trial else ROOT / "runs")
        out = told.out or (None if trial else ROOT / "figures" / "gpu")
        folders = (Path(scratch), runs_dir, places[1] or runs_dir / "gpu")
        machine = Machine(told.device, tuple(told.papers), *folders)
        record = answers(machine, told.seconds, out)
    print(f"\n\n{summary(record)}")
    sys.exit(1 if failures(record) else 0)


if __name__ == "__main__":
    main()

"""PolyMNIST: what a notebook cell cannot test, and the properties of a whole step."""

import ast
import subprocess
import sys
from functools import partial

import pytest
import torch
from places import ROOT, cells, source
from torch.utils._python_dispatch import TorchDispatchMode

from genpapers.base.files import UserError
from genpapers.base.paper import find_paper
from genpapers.companion.job import make_job
from genpapers.nets.convs import n_parameters
from genpapers.nets.distributions import one_hot
from genpapers.polymnist.bench import random_batch
from genpapers.polymnist.blackbox import export_blackbox, load_blackbox
from genpapers.polymnist.conditionals import Colours, Conditionals
from genpapers.polymnist.stages import ClassifierStage, GameStage, GeneratorStage, PairNetworks

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
COLOURS = Colours(torch.full((3,), 0.4), torch.full((3,), 0.25))
WAITING = (
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "item",
    "unique",
    "is_nonzero",
)  # operators whose result the host must see


class Record(TorchDispatchMode):
    "Every operator that runs, with the shapes of its inputs."

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        shapes = tuple(tuple(a.shape) for a in args if isinstance(a, torch.Tensor))
        self.calls.append((str(func), shapes))
        return func(*args, **(kwargs or {}))


def stages():
    g = torch.Generator().manual_seed(0)
    x, c, d, c_pairs, s = random_batch(6)
    return {
        "classifier": (ClassifierStage(COLOURS, 10, 2, 1e-3), (x, c)),
        "generator": (GeneratorStage(3, 2, 1e-3, g), (c, s)),
        "game": (GameStage(Conditionals(COLOURS, 3, 4, 2), 1e-3, 2, g), (x, c, d, c_pairs, s)),
    }


@pytest.mark.parametrize("name", ["classifier", "generator", "game"])
def test_a_step_waits_for_nothing_and_has_static_shapes(name):
    stage, batch = stages()[name]
    records = []
    for _ in range(3):
        with Record() as record:
            stage.step(batch)
        records.append(record.calls)
    assert not {op for op, _ in records[1] if any(w in op for w in WAITING)}
    assert (
        waits(lambda: stage.step(batch)) == set()
    )  # sees masks too, which are an index in the record
    assert (
        records[1] == records[2]
    )  # the same operators on the same shapes; the first step also makes Adam's state


def within(event):
    "The names of an event and of all that it happens in."
    return [event.name, *(within(event.cpu_parent) if event.cpu_parent else [])]


def waits(call):
    """Operators of `call` that make the host wait for a device, inside an exported program too.

    Adam's reading of its step counter is not one."""
    with torch.profiler.profile() as profile:
        call()
    found = [within(event) for event in profile.events() if any(w in event.name for w in WAITING)]
    return {names[0] for names in found if "aten::_fused_adam_" not in names}


def test_fresh_pairs_from_the_black_box_make_a_step_wait_for_nothing(tmp_path):
    torch.manual_seed(0)
    limiting = load_blackbox(export_blackbox(PairNetworks(nz=3, n=2), tmp_path))
    game = GameStage(
        Conditionals(COLOURS, 3, 4, 2),
        1e-3,
        2,
        torch.Generator().manual_seed(0),
        partial(limiting, rounds=4),
    )
    batch = random_batch(6)[:3]
    game.step(batch)
    assert waits(lambda: game.step(batch)) == set()
    assert waits(lambda: bool(torch.ones(3).sum() > 2)) >= {
        "aten::_local_scalar_dense"
    }  # such a watch does see what it must


def test_parameter_counts_are_those_of_the_papers_tables():
    conditionals = Conditionals(COLOURS)
    counts = {name: n_parameters(getattr(conditionals, name)) for name in "CDZSX"}
    assert counts == {"C": 55_850, "D": 46_965, "Z": 60_944, "S": 183_936, "X": 2_679_800}
    assert n_parameters(conditionals.X.prior) == 1_771_778
    assert n_parameters(conditionals.X.encoder) == 572_096
    assert n_parameters(conditionals.X.decoder) == 335_926
    assert n_parameters(ClassifierStage(COLOURS, 10, 16, 1e-4).net) == 52_090
    nets = PairNetworks()
    assert [n_parameters(m) for m in (nets.prior, nets.decoder, nets.encoder)] == [
        5_904,
        68_337,
        59_872,
    ]


def test_the_black_box_runs_where_this_project_is_not_installed(tmp_path):
    torch.manual_seed(0)
    export_blackbox(PairNetworks(nz=3, n=2), tmp_path)
    c = one_hot(torch.arange(5), 10)
    ours = load_blackbox(tmp_path)(c, torch.Generator().manual_seed(1), 4)
    code = """
import sys, torch
program = torch.export.load(sys.argv[1]).module()
u = torch.rand(5, 5, 787, generator=torch.Generator().manual_seed(1))
ours = [name for name in sys.modules if name.startswith("genpapers")]
print(program(torch.eye(10)[:5], u).sum().item(), bool(ours))
"""
    command = [sys.executable, "-I", "-c", code, str(tmp_path / "generator.pt2")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.split() == [str(ours.sum().item()), "False"]


def test_one_number_is_the_length_of_every_stage():
    paper = find_paper("polymnist")
    for stages, names in (
        ("all", 6),
        ("baseline", 3),
        ("generator", 1),
        ("main", 3),
    ):  # as papermill's -p gives them
        specs = make_job(paper, {"niterations": 1_000_000, "stages": stages}, ROOT).plan()
        lengths = {s.config["niterations"] for s in specs}  # that of the judges is fixed
        assert len(specs) == names and lengths - {3000} == {1_000_000}
    specs = make_job(paper, {"niterations": 7, "niterations_main": 9}, ROOT).plan()
    lengths = {s.labels["model"]: s.config["niterations"] for s in specs}
    assert lengths == {
        "baseline": 7,
        "digits": 3000,
        "styles": 3000,
        "generator": 7,
        "main-real": 9,
        "main-synthetic": 9,
    }


def test_the_notebook_has_no_function_of_its_own():
    code = [c for c in cells(ROOT / find_paper("polymnist").notebook) if c["cell_type"] == "code"]
    nodes = [node for c in code for node in ast.walk(ast.parse(source(c)))]
    assert nodes and not [n for n in nodes if isinstance(n, DEFINITIONS)]


def test_a_pool_smaller_than_the_batch_is_refused():
    with pytest.raises(UserError, match="pool is 50; with batches of 256"):
        make_job(find_paper("polymnist"), {"scale": "smoke", "batch_size": 256}, ROOT).plan()

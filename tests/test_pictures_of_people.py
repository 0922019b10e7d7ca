"""A folder of a person's own pictures goes through every paper that takes pictures, and what is
made of it says so."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from places import ROOT

from genpapers.base.code import entry_of
from genpapers.base.files import UserError
from genpapers.base.paper import Paper, available_papers
from genpapers.base.parameters import completed, declared_parameters
from genpapers.companion.marks import scale_mark
from genpapers.train.runs import RunSettings, ensure_all
from genpapers.train.specs import Context, RunSpec, build

NAME = "birds"
CLASSES = {"heron": 14, "kestrel": 13, "swift": 13}
KINDS = ("png", "jpg", "webp", "tiff")
TAKING = {
    paper.name: paper
    for paper in available_papers()
    if "pictures" in {p.name for p in declared_parameters(paper, ROOT)}
}
FEW = {"niterations": 2}
SHORT = {
    "amr": FEW | {"methods": ["baseline", "k3"], "size": 16, "supervised_niterations": 2},
    "nfpi": FEW
    | {"strategies": "real", "classifier_steps": 1, "num_flows": "1", "num_blocks": "1"},
    "symvae": FEW | {"experiments": ["mnist-ladder"], "anneal_steps": 0},
    "polymnist": FEW | {"stages": "main"},
    "flics_digits": FEW | {"alphas": [0.5]},
    "flics_fashion": FEW | {"methods": ["discriminative", "baseline"]},
}


def picture(random: np.random.RandomState, shape: int) -> Image.Image:
    "A bar as wide as its class says on noise, grey or in colour, of some size."
    height, width = random.randint(30, 60, 2)
    values = random.randint(0, 60, (height, width, 3))
    rows, columns = (slice(5, 20), slice(5, 9 + 9 * shape))
    values[rows, columns] += random.randint(90, 190, 3)
    whole = Image.fromarray(values.astype(np.uint8))
    return whole.convert("L") if random.rand() < 0.3 else whole


@pytest.fixture(scope="module")
def birds(tmp_path_factory) -> Path:
    "Forty pictures of three classes in four kinds of files."
    folder, random = tmp_path_factory.mktemp("own") / NAME, np.random.RandomState(0)
    for shape, (name, n) in enumerate(CLASSES.items()):
        (folder / name).mkdir(parents=True)
        for i in range(n):
            picture(random, shape).save(folder / name / f"{i:02}.{KINDS[i % len(KINDS)]}")
    return folder


def parameters(paper: Paper, folder: Path, scale: str = "smoke", **given) -> SimpleNamespace:
    "The notebook's parameters with own pictures."
    given = {"scale": scale, "pictures": str(folder), "device": "cpu"} | given
    return completed(paper, declared_parameters(paper, ROOT), given)


def planned(p: SimpleNamespace, paper: Paper) -> list[RunSpec]:
    return entry_of(paper.plan)(p)


def check_says(spec: RunSpec, folder: Path) -> None:
    "Data and places of a training are the folder's, and no other set is named."
    names = [name.replace("/", " ").replace(",", " ").split()[0] for name in spec.data]
    assert names and set(names) == {NAME}, f"{spec.name} names {list(spec.data)}"
    assert str(folder.resolve()) not in repr(spec.config), "a place decides a key"
    words = repr([spec.name, spec.config, spec.labels])
    assert not [s for s in ("mnist5k", "kmnist", "cifar") if s in words], words


@pytest.mark.parametrize("paper", TAKING.values(), ids=TAKING)
def test_own_pictures_are_planned_trained_and_named(paper, birds, tmp_path):
    p = parameters(paper, birds, **SHORT.get(paper.name, FEW))
    specs = planned(p, paper)
    for spec in specs:
        check_says(spec, birds)
    assert len({spec.name for spec in specs}) == len(specs)
    first = [spec for spec in specs if not spec.needs][:3]
    settings = RunSettings(tmp_path, p.data_dir, "cpu", "float32")
    for run in ensure_all(first, settings).values():
        assert not run.reused and len(run.metrics)
    assert all(run.reused for run in ensure_all(first, settings).values())
    for figure in paper.figures.values():
        assert f"pictures {NAME}" in scale_mark(paper, vars(p), figure.parameters)
    assert f"pictures {NAME}" in scale_mark(paper, vars(p) | {"scale": "paper"})


def check_mark(paper: Paper, p: SimpleNamespace, name: str, used: int) -> None:
    assert getattr(p, name) == used
    assert f"{name} {used}" in scale_mark(paper, vars(p), (name,))


@pytest.mark.parametrize("paper", TAKING.values(), ids=TAKING)
def test_forty_pictures_are_enough_for_a_preset(paper, birds):
    "No training of quick asks for larger batches than there are pictures; marks name those used."
    p = parameters(paper, birds, "quick")
    specs = [spec for spec in planned(p, paper) if not spec.needs]
    for spec in specs:
        if spec.labels.get("seed") == str(p.seed):
            training = build(spec, Context(torch.device("cpu"), p.data_dir, {}, spec.seed))
            assert len(training.batches(0)[0]) <= sum(CLASSES.values())
    if paper.name.startswith("flics"):
        name = {"flics_digits": "images_per_class", "flics_fashion": "baseline_batch_size"}
        assert getattr(p, name[paper.name]) <= sum(CLASSES.values())
    else:
        check_mark(paper, p, "batch_size", specs[0].config["batch_size"])


def test_an_hour_is_planned_and_says_what_it_uses(birds):
    for name, given, used in (
        ("flics_fashion", "examples_per_class", [2]),
        ("flics_fashion", "baseline_batch_size", 31),
        ("symvae", "anneal_batch_size", 40),
        ("polymnist", "batch_size_generator", 31),
    ):
        p = parameters(TAKING[name], birds, "hour")
        before = getattr(p, given)
        assert planned(p, TAKING[name]) and before != getattr(p, given) == used


def test_those_that_take_pictures():
    assert set(TAKING) == {p.name for p in available_papers()} and len(TAKING) == 7


def test_amr_has_all_rows_on_own_pictures(birds, tmp_path):
    paper, given = TAKING["amr"], {"methods": ["acai", "fm2"], "seeds": 2, "size": 16}
    specs = planned(parameters(paper, birds, **given), paper)
    rows = [f"folder-{m}-s{i}" for m in ("acai", "fm2") for i in (0, 1)]
    assert [s.name for s in specs] == [*rows, "folder-supervised-s0"]
    assert specs[-1].config["n_attributes"] == len(CLASSES) and specs[-1].config["cls"] > 0
    flat = tmp_path / NAME
    flat.mkdir()
    for i, path in enumerate(sorted(birds.rglob("*.png"))):
        (flat / f"{i}.png").write_bytes(path.read_bytes())
    specs = planned(parameters(paper, flat, **given), paper)
    assert [s.name for s in specs] == rows and not any(s.config.get("cls") for s in specs)
    with pytest.raises(UserError, match="needs attributes"):
        planned(parameters(paper, flat, cls=1.0, **given), paper)
    (one,) = planned(parameters(paper, flat, mixer="fm", k=3), paper)
    assert one.name == "folder-fm-s0" and one.config["k"] == 3
    with pytest.raises(UserError, match="one method that mixes"):
        planned(parameters(paper, flat, mixer="fm", **given), paper)


def test_nfpi_reads_train_and_test(birds, tmp_path):
    "Two folders of classes are a division, and its classes must be the same."
    paper, own = TAKING["nfpi"], tmp_path / NAME
    for split, kind in (("train", "png"), ("test", "jpg")):
        for path in birds.rglob(f"*.{kind}"):
            (own / split / path.parent.name).mkdir(parents=True, exist_ok=True)
            (own / split / path.parent.name / path.name).write_bytes(path.read_bytes())
    p = parameters(paper, own, configs="mean", **FEW)
    assert (p.configs, p.data_dir) == (f"{NAME}/mean", str(tmp_path.resolve()))
    for spec in planned(p, paper):
        check_says(spec, own)
    (own / "test" / "heron").rename(own / "test" / "stork")
    with pytest.raises(UserError, match="classes"):
        planned(parameters(paper, own, configs="mean", **FEW), paper)

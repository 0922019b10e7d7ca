"""Adversarial mixup resynthesis: runs on disk, resumption, every published experiment."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from places import ROOT
from scipy.io import savemat
from states import leaves

from genpapers.amr import splits as amr_splits
from genpapers.amr.experiments import EXPERIMENTS, METHOD_RECIPES
from genpapers.amr.page import PAPER
from genpapers.amr.plan import plan, published_config
from genpapers.amr.training import build, recipe_of
from genpapers.base.parameters import declared_parameters
from genpapers.data import colour
from genpapers.train.checkpoint import state_of
from genpapers.train.loop import fit
from genpapers.train.runs import RunSettings, ensure_all
from genpapers.train.specs import Context

CPU = torch.device("cpu")
SMALL = {
    "dataset": "mnist5k",
    "count": 120,
    "batch_size": 16,
    "nfeatures": 4,
    "evaluate_every": 0,
    "log_every": 1,
}
VARIANTS = {
    "baseline": {"variant": "baseline"},
    "k3": {"variant": "amr", "k": 3, "beta": 0.5},
    "fm2": {"variant": "amr", "mixer": "fm2"},
    "acai": {"variant": "acai"},
    "supervised": {"variant": "amr", "cls": 1.0, "n_attributes": 10},
    "vae": {"variant": "vae", "dataset": "dsprites"},
}


def configuration(name: str) -> dict:
    return SMALL | VARIANTS[name]


def trained(config: dict, folder, *ends: int) -> dict:
    "The state after training up to each of `ends` in turn, as after interruptions."
    context = Context(CPU, None, {}, seed=3)
    for end in ends:
        training = build(config | {"niterations": end}, context)
        fit(training, folder, "float32", CPU, 1e9, "test")
    return state_of(training.model)


@pytest.mark.parametrize("name", VARIANTS)
def test_resumed_equals_uninterrupted(name, tmp_path):
    for part in ("whole", "parts"):
        (tmp_path / part).mkdir()
    whole = dict(leaves(trained(configuration(name), tmp_path / "whole", 7)))
    parts = dict(leaves(trained(configuration(name), tmp_path / "parts", 3, 7)))
    assert whole.keys() == parts.keys()
    assert any(isinstance(v, torch.Tensor) for v in whole.values())
    for path, value in whole.items():
        same = (
            torch.equal(value, parts[path])
            if isinstance(value, torch.Tensor)
            else value == parts[path]
        )
        assert same, path
    whole, parts = (
        (tmp_path / part / "metrics.csv").read_text().splitlines() for part in ("whole", "parts")
    )
    # parts has one evaluation more, at its first end
    assert [line for line in parts if line in set(whole)] == whole


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_published_experiment_is_a_recipe(name):
    e = EXPERIMENTS[name]
    config = published_config(e)
    recipe = recipe_of(config)
    assert config["batch_size"] == 64 and recipe.lr == 1e-4 and recipe.lamb == e.lamb
    if METHOD_RECIPES[e.method]["variant"] == "vae":
        assert recipe.beta in (10, 11) and recipe.beta2 == 0.99
        return
    assert recipe.code_length == e.code and recipe.update_g_every == 5
    assert recipe.initialisation == "published"
    assert (recipe.beta1, recipe.beta2) == (0.5, 0.99)
    assert recipe.weight_decay == (0 if e.table == 4 else 1e-5)
    assert recipe.classes == (0 if e.table == 4 else 10)


DEFAULTS = {p.name: p.default for p in declared_parameters(PAPER, ROOT)}


def parameters(**given) -> SimpleNamespace:
    "The notebook's parameters without a preset."
    return SimpleNamespace(**DEFAULTS | {"seeds": 1} | given)


def test_plan_trains_once_and_is_reused(tmp_path):
    p = parameters(
        dataset="mnist5k", methods=["baseline", "k3"], niterations=3, nfeatures=4, batch_size=8
    )
    settings = RunSettings(runs_dir=tmp_path, device="cpu", precision="float32")
    first, second = ensure_all(plan(p), settings), ensure_all(plan(p), settings)
    assert [r.reused for r in first.values()] == [False, False]
    assert [r.reused for r in second.values()] == [True, True]
    columns = set(second["mnist-k3_lamb10-s0"].metrics.columns)
    assert {"recon", "loss_d", "valid_accuracy", "test_accuracy"} <= columns
    (other,) = ensure_all([replace(plan(p)[0], seed=9)], settings).values()
    assert not other.reused


def test_a_folder_of_pictures_with_attributes_trains(tmp_path):
    from PIL import Image

    for i in range(20):
        Image.effect_noise((40, 40), 90).convert("RGB").save(tmp_path / f"{i:02}.png")
    table = "".join(f"{i:02}.png,{i % 2},{i // 10}\n" for i in range(20))
    (tmp_path / "attributes.csv").write_text("file,odd,late\n" + table)
    given = {
        "pictures": str(tmp_path),
        "attributes": str(tmp_path / "attributes.csv"),
        "cls": 1.0,
        "size": 32,
        "nfeatures": 4,
    }
    usual = dict(niterations=2, batch_size=4, methods=["mixup"])
    plain, spec = plan(parameters(**usual | given))
    assert plain.labels["folder"] == "pictures" and plain.config.get("cls", 0) == 0
    assert (spec.labels["folder"], spec.config["n_attributes"]) == ("supervised", 2)
    settings = RunSettings(runs_dir=tmp_path / "runs", device="cpu", precision="float32")
    run = ensure_all([spec], settings)[spec.name]
    assert {"class_mix", "class_accuracy", "fool_sup"} <= set(run.metrics.columns)


def write_svhn(folder, train: int, test: int, extra: int) -> None:
    "A tiny SVHN in torchvision's layout: (H, W, 3, N) bytes, labels 1 to 10, ten for zero."
    random = np.random.RandomState(0)
    folder.mkdir()
    for name, n in (("train", train), ("test", test), ("extra", extra)):
        labels = np.arange(n).reshape(n, 1) % 10 + 1
        savemat(
            folder / f"{name}_32x32.mat",
            {
                "X": random.randint(256, size=(32, 32, 3, n), dtype=np.uint8),
                "y": labels.astype(np.uint8),
            },
        )


def write_cifar10(folder, batch: int) -> None:
    "A tiny CIFAR-10, binary version: a label and 3,072 bytes a record."
    random = np.random.RandomState(0)
    folder.mkdir()
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
        records = random.randint(256, size=(batch, 3073), dtype=np.uint8)
        records[:, 0] = np.arange(batch) % 10
        (folder / f"{name}.bin").write_bytes(records.tobytes())


COLOUR = {
    "svhn32/k3_lamb10": 32,
    "svhn256/fm2_lamb10": 256,
    "cifar10/acai_lamb50": 256,
    "cifar10_1024/k8_lamb50": 1024,
}


@pytest.mark.parametrize(("experiment", "length"), COLOUR.items())
def test_colour_experiments_train(experiment, length, tmp_path, monkeypatch):
    monkeypatch.setattr(amr_splits, "SVHN_TRAIN", 40)
    monkeypatch.setattr(colour, "published_md5", dict)  # these files are made here
    write_svhn(tmp_path / "svhn", train=40, test=12, extra=8)
    write_cifar10(tmp_path / "cifar-10-batches-bin", batch=8)
    small = dict(niterations=2, batch_size=8, nfeatures=4, data_dir=tmp_path)
    (spec,) = plan(parameters(experiment=experiment, **small))
    settings = RunSettings(tmp_path / "runs", tmp_path, device="cpu", precision="float32")
    run = ensure_all([spec], settings)[spec.name]
    assert run.model.recipe.n_channels == 3 and run.model.recipe.code_length == length
    assert {"valid_accuracy", "test_accuracy"} <= set(run.metrics.columns)
    splits = amr_splits.splits_of(spec.config, spec.seed, tmp_path)
    assert splits.train.images.shape == (36, 3, 32, 32) and len(splits.valid.labels) == 4
    assert set(splits.test.labels.tolist()) <= set(range(10))
    images = splits.test.images
    assert run.model.decode(run.model.encode(images)).shape == images.shape


def test_svhn_leaves_its_extra_part_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(amr_splits, "SVHN_TRAIN", 40)
    monkeypatch.setattr(colour, "published_md5", dict)  # these files are made here
    write_svhn(tmp_path / "svhn", train=40, test=12, extra=8)
    without = amr_splits.load_official("svhn", "train", tmp_path)
    assert len(without) == 40 and without.labels[9] == 0 and without.labels[0] == 1
    monkeypatch.setattr(amr_splits, "SVHN_TRAIN", 100)
    whole = amr_splits.load_official("svhn", "train", tmp_path)
    assert len(whole) == 48 and torch.equal(whole.images[:40], without.images)
    assert whole.digest != without.digest


def test_table_4_trains_on_sprites_whatever_the_data_set_says(tmp_path):
    p = parameters(
        table=4,
        dataset="mnist5k",
        methods="k3fm,vae",
        niterations=2,
        batch_size=4,
        nfeatures=4,
        count=30,
    )
    runs = ensure_all(plan(p), RunSettings(runs_dir=tmp_path, device="cpu", precision="float32"))
    assert list(runs) == [
        "dsprites-k3fm_lamb1-s0",
        "dsprites-vae_beta100-s0",
        "dsprites-vae_beta110-s0",
    ]
    blank = torch.zeros(2, 1, 64, 64, dtype=torch.uint8)
    assert all(r.model.encode(blank).shape == (2, 10) for r in runs.values())

"""What a cell cannot test of symvae: resuming, continuing, and FID by pytorch-fid's program."""

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from genpapers.metrics.fid import (
    CACHE_NAME,
    PTH_NAME,
    Inception,
    fid,
    from_pth,
    from_wheel,
    inception_folder,
    inception_network,
    inception_state,
)
from genpapers.metrics.frechet import feature_moments
from genpapers.symvae.plan import plan
from genpapers.symvae.snapshots import snapshot_steps, snapshots
from genpapers.train.checkpoint import load_state
from genpapers.train.runs import RunSettings, ensure, ensure_all

WEIGHTS = inception_folder()
needs_weights = pytest.mark.skipif(
    not (WEIGHTS / CACHE_NAME).exists(), reason=f"the Inception weights are not in {WEIGHTS}"
)

SIZES = {
    "nz0": 6,
    "nz1": 8,
    "channels": 2,
    "width": 16,
    "hidden": 16,
    "batch_size": 16,
    "niterations": 4,
}
REST = {
    "stepsize": 1e-3,
    "code_init": "informative",
    "seed": 0,
    "digits": "mnist5k",
    "pictures": None,
    "garments": "mnist5k",
    "kl_warmup": 0.5,
    "load": None,
    "data_dir": None,
    "seeds": 1,
    "anneal_steps": 0,
    "anneal_stepsize": 1e-4,
    "anneal_batch_size": 32,
}


def parameters(**changes):
    experiments = ["mnist-ladder", "mnist-reverse", "fmnist-ladder"]
    return SimpleNamespace(
        **{"experiments": experiments, "methods": ["sym", "elbo"], **SIZES, **REST, **changes}
    )


def same(a, b):
    "Whether two nested states are equal bit for bit."
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def test_all_six_train_and_are_found_again(tmp_path):
    settings = RunSettings(runs_dir=tmp_path, device="cpu", precision="float32")
    runs = ensure_all(plan(parameters()), settings)
    assert len(runs) == 6 and not any(run.reused for run in runs.values())
    assert all(run.reused for run in ensure_all(plan(parameters()), settings).values())
    for name, run in runs.items():
        assert {"p_x", "gain", "cost", "I_q_z0", "bits_p_z1"} <= set(run.metrics), name
        moments = dict(snapshots(run.folder, run.model.model))
        assert list(moments) == snapshot_steps(SIZES["niterations"]), name


def states_at(run):
    "The weights at the moments that a run has kept."
    return {t: {**m.state_dict()} for t, m in snapshots(run.folder, run.rebuild().model.model)}


@pytest.mark.parametrize("method", ["sym", "elbo"])
def test_resumed_equals_uninterrupted(tmp_path, monkeypatch, method):
    given = {"experiments": ["mnist-ladder"], "methods": [method], "anneal_steps": 4}
    first, second = plan(parameters(**given))
    states, moments = [], []
    for name in ("whole", "resumed"):
        settings = RunSettings(
            runs_dir=tmp_path / name, device="cpu", precision="float32", checkpoint_seconds=0
        )
        needs = {}
        for spec in (first, second):
            if name == "resumed":
                interrupt_at(monkeypatch, 2)
                with pytest.raises(KeyboardInterrupt):
                    ensure(spec, settings, needs)
                monkeypatch.undo()
            needs[spec.name] = run = ensure(spec, settings, needs)
        states.append(load_state(run.folder / "checkpoint.safetensors")["model"])
        moments.append(states_at(run))
    assert "information" in states[0] and states[0]["t"] == 8
    assert same(*states) and len(moments[0]) == 4 and same(*moments)


def interrupt_at(monkeypatch, step):
    "Makes the loop stop before a step, its checkpoint of the step before on disk."
    from genpapers.data.batches import Batches

    draw = Batches.__call__

    def stopping(self, t):
        if t == step:
            raise KeyboardInterrupt
        return draw(self, t)

    monkeypatch.setattr(Batches, "__call__", stopping)


@pytest.mark.parametrize("method", ["sym", "elbo"])
def test_load_continues_from_a_named_run(tmp_path, method):
    settings = RunSettings(runs_dir=tmp_path, device="cpu", precision="float32")
    only = {"experiments": ["mnist-ladder"], "methods": [method]}
    first = ensure(plan(parameters(**only))[0], settings)
    second = ensure(plan(parameters(**only, load=str(first.folder), stepsize=1e-7))[0], settings)
    assert second.key != first.key and second.rebuild().batches.seed != first.rebuild().batches.seed
    copy = shutil.copytree(first.folder, tmp_path / "elsewhere" / first.folder.name)
    assert ensure(
        plan(parameters(**only, load=str(copy), stepsize=1e-7))[0], settings
    ).reused  # what was loaded decides, not where it lay
    weights = [dict(run.model.model.named_parameters()) for run in (first, second)]
    assert all(
        torch.allclose(weights[0][name], weights[1][name], atol=1e-5) for name in weights[0]
    )  # at the new stepsize they hardly move
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert method == "sym" or (first.model.t, second.model.t) == (4, 8)


@needs_weights
def test_fid_is_that_of_the_program(tmp_path):
    generator = torch.Generator().manual_seed(0)
    sets = {
        "a": torch.rand(24, 1, 28, 28, generator=generator),
        "b": torch.rand(24, 1, 28, 28, generator=generator) ** 3,
    }
    sets = {name: (images * 255).to(torch.uint8) for name, images in sets.items()}
    for name, images in sets.items():
        (tmp_path / name).mkdir()
        for number, image in enumerate(images):
            Image.fromarray(image[0].numpy()).save(tmp_path / name / f"{number}.png")
    inception = Inception(WEIGHTS, download=False)
    ours = fid(inception, sets["a"], feature_moments(inception, sets["b"]))
    checkpoints = tmp_path / "torch" / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    torch.save(inception_state(WEIGHTS, download=False), checkpoints / PTH_NAME)
    command = [sys.executable, "-m", "pytorch_fid", str(tmp_path / "a"), str(tmp_path / "b")]
    environment = {"TORCH_HOME": str(tmp_path / "torch"), "PATH": "", "OMP_NUM_THREADS": "1"}
    command += ["--device", "cpu", "--num-workers", "0", "--batch-size", "12"]
    output = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    theirs = float(output.stdout.split()[-1])
    assert ours == pytest.approx(theirs, rel=1e-2)


def test_both_sources_of_the_weights_agree():
    pth = Path(torch.hub.get_dir()) / "checkpoints" / PTH_NAME
    if not pth.exists():
        pytest.skip(f"needs pytorch-fid's own file as {pth}")
    images = torch.randint(
        256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    features = []
    for state in (from_pth(pth), from_wheel()):
        inception = Inception.__new__(Inception)
        inception.network, inception.device, inception.precision = (
            inception_network(state),
            torch.device("cpu"),
            "float32",
        )
        features.append(inception.features(images))
    assert torch.allclose(*features, atol=1e-4)

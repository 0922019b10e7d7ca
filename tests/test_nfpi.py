"""Fixed point flows: what a cell cannot test (resumption, every preset, steps in bfloat16)."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from states import leaves

from genpapers.nfpi.configs import CONFIGS, find_config
from genpapers.nfpi.fpi import FixedPointOptions, Gaussians, iterate
from genpapers.nfpi.model import trained_flow
from genpapers.nfpi.page import PAPER
from genpapers.nfpi.plan import plan
from genpapers.nfpi.training import build_classifier, build_flow
from genpapers.train.checkpoint import state_of
from genpapers.train.loop import fit
from genpapers.train.runs import RunSettings, ensure_all
from genpapers.train.specs import Context

CPU = torch.device("cpu")
SEED = 3


def context(**needs):
    return Context(CPU, None, needs, SEED)


def parameters(**changes):
    tiny = {
        "configs": "mnist5k/mean",
        "num_flows": "1,1",
        "num_blocks": "1,1",
        "hidden": 8,
        "items_per_class": 10,
        "items_per_class_val": 5,
        "batch_size": 40,
        "niterations": 7,
        "init_batch_size": 40,
        "strategies": "resampled",
        "temperatures": "1.0",
        "classifier_steps": 7,
        "classifier_per_class": 6,
        "classifier_batch_size": 20,
        "lambda_fpi": 1e3,
        "seed": SEED,
        "data_dir": None,
    }
    return SimpleNamespace(**(PAPER.scales["smoke"] | tiny | changes))


def assert_same(a, b):
    a, b = dict(leaves(a)), dict(leaves(b))
    assert a.keys() == b.keys() and any(isinstance(v, torch.Tensor) for v in a.values())
    for path, value in a.items():
        assert (
            torch.equal(value, b[path]) if isinstance(value, torch.Tensor) else value == b[path]
        ), path


def trained(build, config, given, folder, *ends):
    "The state after training up to each of `ends` in turn, as after interruptions."
    folder.mkdir()
    for end in ends:
        torch.manual_seed(0)
        training = build(dict(config), given)
        training.niterations = end
        fit(training, folder, "float32", CPU, 1e9, "test")
    return state_of(training.model)


@pytest.mark.parametrize("variant", ["data_init", "mean", "mean_var"])
def test_resumed_flow_equals_uninterrupted(variant, tmp_path):
    config = plan(parameters(configs=f"mnist5k/{variant}", classifier_flow=variant))[0].config
    whole = trained(build_flow, config, context(), tmp_path / "whole", 7)
    parts = trained(
        build_flow, config, context(), tmp_path / "parts", 2, 5, 7
    )  # before, and after, the fixed point iteration at step 3
    assert_same(whole, parts)
    assert len(whole["history"]) == (variant != "data_init")


def test_resumed_classifier_on_resampled_images_equals_uninterrupted(tmp_path):
    specs = plan(parameters())
    runs = ensure_all(specs[:1], RunSettings(runs_dir=tmp_path, device="cpu", precision="float32"))
    assert_same(
        trained(build_classifier, specs[1].config, context(**runs), tmp_path / "whole", 7),
        trained(build_classifier, specs[1].config, context(**runs), tmp_path / "parts", 4, 7),
    )


def test_weights_of_one_run_start_another(tmp_path):
    settings = RunSettings(runs_dir=tmp_path, device="cpu", precision="float32")
    first = ensure_all(plan(parameters())[:1], settings)[f"mean-s{SEED}"]
    config = plan(parameters(weights_from=str(first.folder)))[0].given
    model = build_flow(config, context()).model
    model.initialise()
    for mine, theirs in zip(
        model.flow.parameters(), trained_flow(first.model).parameters(), strict=True
    ):
        assert torch.equal(mine, theirs)


def test_every_published_configuration_is_complete():
    for name, config in CONFIGS.items():
        assert config == find_config(name) and config.dataset == name.partition("/")[0]
        assert (config.train_mu or config.train_sigma) != name.endswith("data_init")
        assert config.identity_diag is False or config.train_sigma is False


def test_a_step_in_bfloat16_keeps_log_determinants(tmp_path):
    config = plan(parameters())[0].config
    losses = {}
    for amp in (False, True):
        torch.manual_seed(0)
        training = build_flow(dict(config), context())
        for t in range(3):
            with torch.autocast("cpu", torch.bfloat16, enabled=amp):
                losses[amp] = training.model.step(training.batches(t))["bpd"]
    assert losses[True].dtype == torch.float32
    torch.testing.assert_close(losses[True], losses[False], rtol=0.01, atol=0.01)


def test_one_iteration_of_a_hundred_classes_needs_no_cubic_table():
    K, d = 100, 3072
    generator = torch.Generator().manual_seed(0)
    m, s = (
        torch.randn(K, d, generator=generator).double() / 10,
        torch.rand(K, d, generator=generator).double() + 0.5,
    )
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof:
        iterate(Gaussians(m, s), m, s, FixedPointOptions(lambda_fpi=1e6))
    largest = max(event.cpu_memory_usage for event in prof.events())
    assert largest < 10 * K * d * 8  # a table (K, K, d) would be a hundred times K d


def write_shards(folder, generator, per_class=6, size=32):
    "Two npz shards of train, one of test, three classes, as ImageNet's 32 x 32 pixels come."
    for split, names in (("train", ("a", "b")), ("test", ("a",))):
        (folder / split).mkdir(parents=True)
        for name in names:
            data = (
                torch.randint(0, 256, (3 * per_class, 3 * size * size), generator=generator)
                .to(torch.uint8)
                .numpy()
            )
            np.savez(
                folder / split / f"{name}.npz", data=data, labels=np.arange(3 * per_class) % 3 + 1
            )


@pytest.mark.parametrize("size", [32, 48])
def test_a_folder_of_shards_is_a_training_set_with_classes(tmp_path, size):
    write_shards(tmp_path / "pixels", torch.Generator().manual_seed(0), size=size)
    p = parameters(
        configs="pixels/mean",
        data_dir=str(tmp_path),
        strategies="synthetic",
        items_per_class=0,
        batch_size=12,
        init_batch_size=12,
        classifier_per_class=4,
        classifier_batch_size=6,
        classifier_steps=1,
        niterations=4,
    )
    runs = ensure_all(
        plan(p),
        RunSettings(
            runs_dir=tmp_path / "runs", data_dir=str(tmp_path), device="cpu", precision="float32"
        ),
    )
    model = runs[f"mean-s{SEED}"].model
    assert (
        model.mu.shape == (3, 3 * size * size)
        and len(model.history) == 1
        and model.history[0]["step"] == 3
    )  # 36 images
    assert "test_acc" in runs[f"classifier-synthetic-T1-s{SEED}"].metrics


def test_resumed_flow_with_held_out_images_equals_uninterrupted(tmp_path):
    config = plan(parameters(held_out=0.2))[0].config
    whole = trained(build_flow, config, context(), tmp_path / "whole", 7)
    assert_same(whole, trained(build_flow, config, context(), tmp_path / "parts", 2, 5, 7))
    plain = trained(build_flow, config | {"held_out": 0.0}, context(), tmp_path / "plain", 7)
    assert not torch.equal(whole["mu"], plain["mu"])

"""Steps that a tape repeats, as a CUDA graph would, beside steps as they are: the same bits."""

import importlib
import sys

import pytest
import torch
from places import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
import gpu

CPU = torch.device("cpu")
RUNS = {  # one of every kind of step that a paper has
    "symvae": ("mnist-ladder-sym", "mnist-ladder-elbo"),
    "polymnist": ("baseline", "generator", "main-real"),
    "flics_digits": ("baseline", "alpha-0.1"),
    "flics_fashion": ("distillation-1", "cooperative-2"),
    "amr": ("mnist-k3_lamb10", "supervised", "dsprites-fm2"),
    "mnist_style": ("simple", "adversarial"),
}
NEVER = ("nfpi",)  # as their bench page says
PAIRS = [(paper, name) for paper, names in RUNS.items() for name in names]


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(gpu, "STEPS", 5)


def spec_of(paper: str, name: str) -> gpu.RunSpec:
    "A training at smoke."
    return next(s for s in gpu.plan_of(paper, "smoke") if s.name == f"{name}-s0")


def test_all_papers_are_here():
    assert {*RUNS, *NEVER} == set(gpu.PAPERS)


@pytest.mark.parametrize(("paper", "name"), PAIRS)
def test_captured_steps_have_the_same_bits(paper, name):
    found = gpu.compare_captured(spec_of(paper, name), CPU, "float32")
    assert found["captured"].startswith("5 of ") and found["captured"].endswith("the same bits")


def test_a_generator_that_rests_is_another_graph():
    "Every other iteration; what it reads of its own last one has its place from the start."
    spec = next(s for s in gpu.plan_of("amr", "smoke", update_g_every=2) if "k3" in s.name)
    assert "same bits" in gpu.compare_captured(spec, CPU, "float32")["captured"]


@pytest.mark.parametrize("paper", NEVER)
def test_what_cannot_be_captured_is_done_as_it_is(paper):
    spec = next(s for s in gpu.plan_of(paper, "smoke") if not s.needs)
    found = gpu.compare_captured(spec, CPU, "float32", most=3)
    assert found["captured"] == "0 of 3 steps, the same bits"


def test_a_number_that_the_host_changes_is_found(monkeypatch):
    module = importlib.import_module("genpapers.symvae.bench")
    monkeypatch.setattr(module, "phase", lambda model: 0)
    found = gpu.compare_captured(spec_of("symvae", "mnist-ladder-sym"), CPU, "float32")
    assert found == {"state": "differs", "why": "other bits at step 4: the state"}

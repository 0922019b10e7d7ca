"""No step reads a number back to the host, and none mixes devices: every paper's steps on tensors
without numbers.

A training is built as usual and then copied onto the `meta` device, where tensors have shape, type
and device but no memory. What would make a GPU wait for the host (`item`, `bool`, an index that
depends on numbers) cannot be answered there and fails, as does an operation on two devices."""

import copy
import functools
import types
from contextlib import nullcontext

import pytest
import torch
from places import ROOT

from genpapers.base.paper import available_papers
from genpapers.companion.job import make_job
from genpapers.nfpi.classifier import ClassifierOptions, ResNetClassifier
from genpapers.train.specs import Context, build

META = torch.device("meta")
WITHIN_AN_EPOCH = {"nfpi": 2}  # its flows measure their norms once an epoch, and wait for them
_exponential, _autocast = torch.Tensor.exponential_, torch.autocast


class Generator(torch.Generator):
    "A generator that says it is on the `meta` device, for which there is none."

    device = META


def _fields(x, twin):
    "Names and values that a copy of x is filled with; an optimizer's state is keyed by tensors."
    values = x if isinstance(x, dict) else vars(x)
    return {twin(k) if isinstance(k, torch.Tensor) else k: twin(v) for k, v in values.items()}


def on_meta(x, memo):
    "A copy of x, of everything in it, without numbers; what is shared stays shared."
    if id(x) in memo:
        return memo[id(x)][1]
    twin = functools.partial(on_meta, memo=memo)
    if isinstance(x, torch.Tensor):
        y = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=META)
        if isinstance(x, torch.nn.Parameter):
            y = torch.nn.Parameter(y, x.requires_grad)
    elif isinstance(x, torch.Generator):
        y = Generator()
    elif isinstance(x, torch.device):
        y = META
    elif isinstance(x, (list, tuple)):
        new = [twin(v) for v in x]
        y = type(x)(*new) if hasattr(x, "_fields") else type(x)(new)
    elif isinstance(x, functools.partial):
        y = functools.partial(twin(x.func), *twin(x.args), **twin(x.keywords))
    elif isinstance(x, types.MethodType):
        y = types.MethodType(x.__func__, twin(x.__self__))
    elif isinstance(x, types.FunctionType) and x.__closure__:
        cells = tuple(types.CellType(twin(c.cell_contents)) for c in x.__closure__)
        y = types.FunctionType(x.__code__, x.__globals__, x.__name__, x.__defaults__, cells)
        y.__kwdefaults__ = x.__kwdefaults__
    elif isinstance(x, (type, types.ModuleType, types.FunctionType)):
        y = x
    elif isinstance(x, dict) or hasattr(x, "__dict__"):
        y = copy.copy(x)
        memo[id(x)] = x, y  # before its parts, which may hold it
        filled = _fields(x, twin)
        values = y if isinstance(x, dict) else y.__dict__
        values.clear()
        values.update(filled)
    else:
        y = x
    memo[id(x)] = x, y  # x too, so that no other object gets its id
    if isinstance(x, torch.optim.Optimizer):
        _count_on_the_host(x, y)
    return y


def _count_on_the_host(optimizer, twin):
    "PyTorch keeps an optimizer's count of steps on the host unless it is fused or capturable."
    for group, twins in zip(optimizer.param_groups, twin.param_groups):
        if not (group.get("fused") or group.get("capturable")):
            for p, q in zip(group["params"], twins["params"]):
                if "step" in optimizer.state[p]:
                    twin.state[q]["step"] = optimizer.state[p]["step"].clone()


OTHERS = {  # rules and networks that smoke leaves out
    "amr": [
        {"methods": ["acai", "acai_faithful", "mixup", "fm", "ae"], "cls": 0, "sprites": 0},
        {"table": 4, "methods": ["vae"], "sprites": 50},
    ],
}


def without_needs(paper):
    "A paper's trainings at smoke that build on no other, and some that smoke leaves out."
    jobs = [{}, *OTHERS.get(paper.name, [])]
    plans = [make_job(paper, {"scale": "smoke"} | given, ROOT).plan() for given in jobs]
    return list({s.name: s for plan in plans for s in plan if not s.needs}.values())


@pytest.fixture
def meta(monkeypatch):
    "What PyTorch lacks on `meta`: autocast, and `exponential_` with a generator."
    monkeypatch.setattr(
        torch.Tensor, "exponential_", lambda x, *args, generator=None: _exponential(x, *args)
    )
    monkeypatch.setattr(
        torch,
        "autocast",
        lambda kind, *a, **k: nullcontext() if kind == "meta" else _autocast(kind, *a, **k),
    )


@pytest.mark.parametrize("paper", available_papers(), ids=lambda p: p.name)
def test_no_step_waits_for_the_host_or_mixes_devices(paper, meta):
    for spec in without_needs(paper):
        training = build(spec, Context(torch.device("cpu"), None, {}, spec.seed))
        training.model.step(training.batches(0))  # what the first batch decides is decided
        twin = on_meta(training, {})
        for t in range(1, WITHIN_AN_EPOCH.get(paper.name, 4)):
            values = twin.model.step(twin.batches(t))
            assert {v.device for v in values.values()} == {META}, spec.name


def test_the_step_of_a_classifier_of_flows_neither(meta):
    model = ResNetClassifier(3, 32, 10, 5, "cpu", ClassifierOptions(width=0.0625), 0)
    batch = torch.zeros(8, 3, 32, 32, dtype=torch.uint8), torch.arange(8)
    model.step(batch)
    twin, batch = on_meta((model, batch), {})
    assert {v.device for v in twin.step(batch).values()} == {META}


class _Stopping:
    "A step that waits for the host, or mixes devices."

    def __init__(self, weight):
        self.weight, self.mask = weight, [torch.ones(3)]

    def wait(self):
        return self.weight.sum().item()

    def choose(self):
        return 1 if self.weight.sum() > 0 else 0

    def select(self):
        return self.weight[self.weight > 0]

    def mix(self):
        return self.weight + torch.ones(3)


@pytest.mark.parametrize("name", ["wait", "choose", "select", "mix"])
def test_a_step_that_does_is_found(name):
    twin = on_meta(_Stopping(torch.zeros(3, requires_grad=True)), {})
    assert twin.mask[0].device == META
    with pytest.raises((RuntimeError, NotImplementedError)):
        getattr(twin, name)()

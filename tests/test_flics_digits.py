"""One step of all ways of learning beside the same step written once more from the published
tables: plain layers, the order of the step spelt out, Adam by its formula, in float64."""

import pytest
import torch
import torch.nn.functional as F

from genpapers.data.batches import generator_for
from genpapers.flics_digits.model import Sites
from genpapers.flics_digits.networks import HVAE

NZ0, NZ1, N, STEPSIZE, SEED = 3, 4, 2, 1e-2, 7
STRIDES = {"down": (1, 2, 1, 1, 2, 1), "up": (1, 2, 1, 1, 2, 1)}


@pytest.fixture(autouse=True)
def in_float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def linear(w, name, v):
    return F.linear(v, w[f"{name}.weight"], w[f"{name}.bias"])


def p_z1(w, z0):
    h = torch.tanh(linear(w, "prior.0", z0))
    h = torch.tanh(linear(w, "prior.2", h))
    return linear(w, "prior.4", h) + F.linear(z0, w["skip.weight"])


def p_x(w, z0, z1):
    h = torch.cat([z0, z1], 1)[:, :, None, None]
    for i, stride in enumerate(STRIDES["up"]):
        layer = f"decoder.layers.{i}"
        h = F.conv_transpose2d(h, w[f"{layer}.weight"], w[f"{layer}.bias"], stride)
        h = torch.tanh(h) if i < 5 else h
    return h


def encoded(w, name, x, side=None):
    channels, h = [N, 2 * N, 2 * N, 2 * N, 4 * N], x
    maps = [] if side is None else w[f"{name}.side.weight"].split(channels)
    for i, stride in enumerate(STRIDES["down"]):
        layer = f"{name}.layers.{i}"
        h = F.conv2d(h, w[f"{layer}.weight"], w[f"{layer}.bias"], stride)
        if i < 5:
            h = torch.tanh(h + F.linear(side, maps[i])[:, :, None, None] if maps else h)
    return h.flatten(1)


def bce(logits, bits):
    "Summed over units, (B,)."
    p = logits.sigmoid()
    return -(bits * p.log() + (1 - bits) * (1 - p).log()).flatten(1).sum(1)


class Oracle:
    "A site: weights as leaves, by the names of the model under test."

    def __init__(self, model, generator):
        self.w = {k: v.detach().clone().requires_grad_() for k, v in model.state_dict().items()}
        self.generator, self.gradients = generator, {}

    def bits(self, p):
        return (torch.rand(p.shape, generator=self.generator) < p).double()

    @torch.no_grad()
    def triples(self, n):
        z0 = self.bits(torch.full((n, NZ0), 0.5))
        z1 = self.bits(p_z1(self.w, z0).sigmoid())
        return z0, z1, self.bits(p_x(self.w, z0, z1).sigmoid())

    @torch.no_grad()
    def completed(self, images):
        x = (images > 0.4375 * 255).double()
        x = (x - self.bits(torch.full(x.shape, 0.001))).abs()
        z1 = self.bits(encoded(self.w, "q1", x).sigmoid())
        return self.bits(encoded(self.w, "q0", x, z1).sigmoid()), z1, x

    def learn(self, loss, players):
        names = [k for k in self.w if k.split(".")[0] in players]
        gradients = torch.autograd.grad(loss, [self.w[k] for k in names])
        for name, g in zip(names, gradients):
            self.gradients[name] = g
            with torch.no_grad():  # Adam's first step: both averages are unbiased
                self.w[name] -= STEPSIZE * g / (g.square().sqrt() + 1e-8)
        return loss.item()

    def p_step(self, images, received):
        rows = [torch.cat(pair) for pair in zip(self.completed(images), received)]
        z0, z1, x = rows
        loss = (bce(p_z1(self.w, z0), z1) + bce(p_x(self.w, z0, z1), x)).mean()
        return self.learn(loss, ("prior", "skip", "decoder"))

    def q_step(self, n, received):
        z0, z1, x = (torch.cat(pair) for pair in zip(self.triples(n), received))
        loss = bce(encoded(self.w, "q1", x), z1) + bce(encoded(self.w, "q0", x, z1), z0)
        return self.learn(loss.mean(), ("q1", "q0"))


def no_triples():
    return tuple(torch.zeros(0, *shape).double() for shape in ((NZ0,), (NZ1,), (1, 28, 28)))


def oracle_step(sites, batch, n_gen):
    if n_gen:
        drawn = [site.triples(n_gen) for site in sites]
        received = [drawn[1], drawn[0]]
    else:
        received = [no_triples() for _ in sites]
    losses = []
    for site, images, foreign in zip(sites, batch, received):
        losses.append((site.p_step(images, foreign), site.q_step(len(images), foreign)))
    p, q = (sum(values) / len(sites) for values in zip(*losses))
    return {"p": p / (784 + NZ1), "q": q / (NZ0 + NZ1)}


@pytest.mark.parametrize(
    "n_sites, n_own, n_gen",
    [(1, 10, 0), (2, 6, 0), (2, 4, 6)],
    ids=["baseline", "no exchange", "exchange"],
)
def test_a_step_is_that_of_the_paper(n_sites, n_own, n_gen):
    torch.manual_seed(0)
    models = [HVAE(NZ0, NZ1, hidden=5, n=N).double() for _ in range(n_sites)]
    generator = generator_for("flics", SEED)
    oracles = [Oracle(model, generator) for model in models]
    sites = Sites(models, [n_own + n_gen] * n_sites, STEPSIZE, SEED)
    batch = [torch.randint(256, (n_own, 1, 28, 28), dtype=torch.uint8) for _ in models]
    ours, theirs = sites.step(batch), oracle_step(oracles, batch, n_gen)
    assert {k: v.item() for k, v in ours.items()} == pytest.approx(theirs, rel=1e-9)
    for model, oracle in zip(models, oracles):
        for name, weight in model.named_parameters():
            assert torch.allclose(weight.grad, oracle.gradients[name], rtol=1e-7, atol=1e-10), name
            assert torch.allclose(weight, oracle.w[name], rtol=1e-6, atol=1e-7), name

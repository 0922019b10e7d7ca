"""The losses of symvae against the published tables, written here once more in plain PyTorch.

Small networks, weights by a formula, float64: values and gradients of every player's loss."""

import math
from types import MethodType

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from genpapers.symvae.networks import HVAE
from genpapers.symvae.rules import ELBO, Symmetric


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


NZ0, NZ1, W, HIDDEN, C, BATCH = 3, 4, 5, 6, 2, 3
EXPERIMENTS = {
    "mnist-ladder": ("ladder", "bernoulli", "tanh"),
    "mnist-reverse": ("reverse", "bernoulli", "tanh"),
    "fmnist-ladder": ("ladder", "normal", "relu"),
}


# The tables. Convolutions: outputs, inputs, kernel, stride, padding; transposed ones: inputs,
# outputs, kernel, stride; linear layers: inputs, outputs.
TRUNK = (
    (C, 1, 3, 1, 1),
    (C, C, 2, 1, 0),
    (2 * C, C, 3, 2, 0),
    (2 * C, 2 * C, 3, 1, 0),
    (2 * C, 2 * C, 3, 1, 0),
    (4 * C, 2 * C, 3, 2, 0),
    (W, 4 * C, 4, 1, 0),
)
UP = (
    (NZ1, 4 * C, 4, 1),
    (4 * C, 2 * C, 3, 2),
    (2 * C, 2 * C, 3, 1),
    (2 * C, 2 * C, 3, 1),
    (2 * C, C, 3, 2),
    (C, C, 2, 1),
)
PRIOR = ((NZ0, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, NZ1))
LADDER = ((W, W), (W, W), (W, NZ0))  # of a0
REVERSE = ((NZ1, W), (W, W), (W, W), (W, NZ0))  # of q(z0|z1)


def formula(number, shape):
    "The weights of a layer: waves whose size keeps the inputs of all activations about 1."
    n = math.prod(shape)
    scale = 2.0 / math.sqrt(n / shape[0])
    return scale * torch.sin(torch.arange(n) * (0.7 + 0.1 * number) + number)


class Weights:
    "Layer after layer as (weight, bias), as leaves that gather gradients."

    def __init__(self):
        self.layers = []

    def layer(self, shape, n_bias):
        "A new layer's weight of this shape and its bias (None if it has none)."
        number = len(self.layers)
        weight = formula(number, shape).view(shape).requires_grad_()
        bias = formula(number + 0.5, (n_bias,)).requires_grad_() if n_bias else None
        self.layers.append((weight, bias))
        return self.layers[-1]

    def linears(self, sizes):
        return [self.layer((n_out, n_in), n_out) for n_in, n_out in sizes]


class Published:
    "Networks and losses from the tables."

    def __init__(self, encoder, image, activation):
        w = self.weights = Weights()
        self.ladder, self.image, self.act = encoder == "ladder", image, getattr(torch, activation)
        self.prior, self.prior_skip = w.linears(PRIOR), w.layer((NZ1, NZ0), 0)
        self.up = [w.layer((i, o, k, k), o) for i, o, k, _ in UP]
        self.last = w.layer((1, C, 3, 3), 1)
        self.n_p = len(w.layers)
        self.trunk = [w.layer((o, i, k, k), o) for o, i, k, _, _ in TRUNK]
        self.to_z1 = w.layer((NZ1, W), NZ1)
        self.to_z0 = w.linears(LADDER if self.ladder else REVERSE)
        self.skip = w.layer((NZ0, NZ1), 0)
        self.lsigma = torch.tensor(-0.3, requires_grad=True)

    def p_z1(self, z0):
        return mlp(z0, self.prior) + F.linear(z0, *self.prior_skip)

    def p_x(self, z1):
        h = z1[:, :, None, None]
        for (weight, bias), (_, _, _, stride) in zip(self.up, UP):
            h = self.act(F.conv_transpose2d(h, weight, bias, stride))
        return F.conv2d(h, *self.last, padding=1)

    def feature(self, x):
        for (weight, bias), (_, _, _, stride, padding) in zip(self.trunk, TRUNK):
            x = torch.tanh(F.conv2d(x, weight, bias, stride, padding))
        return x.flatten(1)

    def a(self, x):
        "a0, a1 of the ladder encoder."
        feature = self.feature(x)
        a1 = F.linear(feature, *self.to_z1)
        return mlp(feature, self.to_z0) + F.linear(a1, *self.skip), a1

    def q_z1(self, x):
        return F.linear(self.feature(x), *self.to_z1)

    def q_z0(self, z1):
        return mlp(z1, self.to_z0) + F.linear(z1, *self.skip)

    def codes(self, x, sampler):
        "z0, z1 ~ q(.|x) and their logits l0, l1."
        if self.ladder:
            l0, a1 = self.a(x)
            z0 = sampler(l0)
            l1 = self.p_z1(z0) + a1
            return z0, sampler(l1), l0, l1
        l1 = self.q_z1(x)
        z1 = sampler(l1)
        l0 = self.q_z0(z1)
        return sampler(l0), z1, l0, l1

    def data_term(self, x, z1):
        y = self.p_x(z1)
        if self.image == "bernoulli":
            return bce(y, x)
        constant = math.log(2 * math.pi) / 2
        return ((x - y) ** 2 / (2 * torch.exp(2 * self.lsigma)) + self.lsigma + constant).sum()

    def p_loss(self, x, sampler):
        with torch.no_grad():
            z0, z1, _, _ = self.codes(x, sampler)
        return (bce(self.p_z1(z0), z1) + self.data_term(x, z1)) / len(x)

    def q_loss(self, n, sampler, sampler_x):
        with torch.no_grad():
            z0 = sampler(torch.zeros(n, NZ0))
            z1 = sampler(self.p_z1(z0))
            y = self.p_x(z1)
            x = sampler(y) if self.image == "bernoulli" else sampler_x(y, self.lsigma)
        if self.ladder:
            a0, a1 = self.a(x)
            return (bce(a0, z0) + bce(self.p_z1(z0).detach() + a1, z1)) / n
        return (bce(self.q_z1(x), z1) + bce(self.q_z0(z1), z0)) / n

    def elbo_loss(self, x, sampler):
        z0, z1, l0, l1 = self.codes(x, sampler)
        prior = self.p_z1(z0)
        if self.ladder:
            codes = kl(l0, torch.zeros_like(l0)) + kl(l1, prior)
        else:
            coins = len(x) * NZ0 * math.log(2)
            codes = -bce(l1, z1) - bce(l0, z0) + coins + bce(prior, z1)
        return (self.data_term(x, z1) + codes) / len(x)


def mlp(x, layers):
    *hidden, last = layers
    for weight, bias in hidden:
        x = torch.tanh(F.linear(x, weight, bias))
    return F.linear(x, *last)


def bce(logits, bits):
    return F.binary_cross_entropy_with_logits(logits, bits, reduction="sum")


def kl(logits, logits0):
    "Of Bernoullis, probabilities mixed with 1e-6 of 1/2."
    p, r = (torch.sigmoid(l) * (1 - 1e-6) + 0.5e-6 for l in (logits, logits0))
    return (p * torch.log(p / r) + (1 - p) * torch.log((1 - p) / (1 - r))).sum()


def sampler_of(generator):
    "Bits by a generator, with the straight-through gradient J = (z (1 - p) + (1 - z) p) / 2."

    def sampler(logits):
        p = torch.sigmoid(logits)
        z = (torch.rand(p.shape, generator=generator) < p).to(p)
        jacobian = (z * (1 - p) + (1 - z) * p) / 2
        return z + jacobian.detach() * (logits - logits.detach())

    return sampler


def layers_of(model):
    "The layers of our model in the order of `Published`, and those that learn beside them."
    of = lambda module, kind: [m for m in module.modules() if isinstance(m, kind)]
    ladder = hasattr(model.encoder, "to_a1")
    to_z1 = model.encoder.to_a1 if ladder else model.encoder.q1[-1]
    to_z0 = model.encoder.to_a0 if ladder else model.encoder.q0.mlp
    skip = model.encoder.skip if ladder else model.encoder.q0.skip
    return [
        *of(model.prior.mlp, nn.Linear),
        model.prior.skip,
        *of(model.decoder, (nn.ConvTranspose2d, nn.Conv2d)),
        *of(model.encoder, nn.Conv2d),
        to_z1,
        *of(to_z0, nn.Linear),
        skip,
    ]


def both(experiment):
    "The published model of an experiment and ours, with the same weights."
    encoder, image, activation = EXPERIMENTS[experiment]
    published = Published(encoder, image, activation)
    ours = HVAE(NZ0, NZ1, encoder, image, W, HIDDEN, C, activation)
    with torch.no_grad():
        for layer, (weight, bias) in zip(layers_of(ours), published.weights.layers, strict=True):
            layer.weight.copy_(weight)
            if bias is not None:
                layer.bias.copy_(bias)
        if image == "normal":
            ours.image.lsigma.copy_(published.lsigma)
    return published, ours


def data(experiment):
    "A batch of images (BATCH, 1, 28, 28): waves, binary or in [0, 1]."
    x = 0.5 + 0.5 * torch.sin(torch.arange(BATCH * 28 * 28) * 0.11)
    x = x.view(BATCH, 1, 28, 28)
    return x if experiment.startswith("fmnist") else (x > 0.4375).to(x)


def loss_of(published, loss, x, generator):
    "The published loss, with random numbers of a generator."
    sampler = sampler_of(generator)
    if loss == "p":
        return published.p_loss(x, sampler)
    if loss == "elbo":
        return published.elbo_loss(x, sampler)
    normal = lambda y, lsigma: y + lsigma.exp() * torch.randn(y.shape, generator=generator)
    return published.q_loss(len(x), sampler, normal)


def our_loss(model, loss, x):
    "Our loss as the learner computes it, and the state of its random numbers before."
    if loss == "elbo":
        learner = ELBO(model, 0.0, seed=3, kl_warmup=0)
        learner.disturbed = lambda images: x
        state = learner.generator.get_state()
        terms = learner.step((x,))
        units = {"p_x": 28 * 28, "kl_z0": NZ0, "kl_z1": NZ1}
        return sum(units[name] * value for name, value in terms.items()), state
    learner = Symmetric(model, 0.0, seed=3)
    state = learner.generator.get_state()
    terms = learner.p_step(x) if loss == "p" else learner.q_step(len(x))
    return sum(terms.values()).mean(), state


def largest_difference(published, ours, loss, x):
    "Of the loss's value and of all gradients, absolute."
    for p in ours.parameters():
        p.grad = None
    value, state = our_loss(ours, loss, x)
    expected = loss_of(published, loss, x, torch.Generator().set_state(state))
    leaves = [t for pair in published.weights.layers for t in pair if t is not None]
    theirs = torch.autograd.grad(expected, [*leaves, published.lsigma], allow_unused=True)
    found = [p.grad for l in layers_of(ours) for p in (l.weight, l.bias) if p is not None]
    if hasattr(ours.image, "lsigma"):
        found.append(ours.image.lsigma.grad)
    differences = [abs(value.item() - expected.item())]
    for a, b in zip(found, theirs):
        if a is None or b is None:
            moved = [g.abs().max().item() for g in (a, b) if g is not None]
            differences.append(max(moved, default=0.0))
        else:
            differences.append((a - b).abs().max().item())
    return max(differences)


LOSSES = [(e, loss) for e in EXPERIMENTS for loss in ("p", "q", "elbo")]


@pytest.mark.parametrize("experiment, loss", LOSSES)
def test_values_and_gradients_are_the_published(experiment, loss):
    assert largest_difference(*both(experiment), loss, data(experiment)) < 1e-10


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_no_activation_can_be_missing(experiment):
    published, ours = both(experiment)
    holders = []
    for parent in ours.modules():
        for name, child in parent.named_children():
            if isinstance(child, (nn.Tanh, nn.ReLU)):
                holders.append((parent, name))
    hidden = len(PRIOR) - 1 + len(UP) + len(TRUNK)
    hidden += len(LADDER if published.ladder else REVERSE) - 1
    assert len(holders) == hidden
    for parent, name in holders:
        activation = getattr(parent, name)
        setattr(parent, name, nn.Identity())
        parent.forward = MethodType(nn.Sequential.forward, parent)  # layer by layer
        differences = [
            largest_difference(published, ours, loss, data(experiment)) for loss in ("p", "q")
        ]
        assert max(differences) > 1e-4, (experiment, name)
        setattr(parent, name, activation)
        del parent.forward

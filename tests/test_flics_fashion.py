"""One step of all ways of learning beside the same step written once more from the published
tables: plain layers, the order of the step spelt out, Adam by its formula, in float64; and the
published program's numbers after its first hundred steps."""

import math
from statistics import mean, stdev

import pytest
import torch
import torch.nn.functional as F

from genpapers.data.batches import generator_for
from genpapers.data.sources import IDX, DataError, find_collection
from genpapers.flics_fashion.model import METHODS, Students
from genpapers.flics_fashion.networks import Student
from genpapers.flics_fashion.training import build, fractions_right
from genpapers.train.specs import Context

SIZES = [(2, 3, 1), (3, 2, 2), (2, 2, 1)]  # nz0, nz1, n of each student
K, STEPSIZE, SEED = 4, 1e-2, 7
STRIDES = (1, 2, 1, 1, 2, 1)


@pytest.fixture
def in_float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def linear(w, name, v):
    return F.linear(v, w[f"{name}.weight"], w.get(f"{name}.bias"))


def three_layers(w, name, v):
    h = torch.tanh(linear(w, f"{name}.0", v))
    return linear(w, f"{name}.4", torch.tanh(linear(w, f"{name}.2", h)))


def encoded(w, name, x):
    for i, stride in enumerate(STRIDES):
        layer = f"{name}.layers.{i}"
        x = F.conv2d(x, w[f"{layer}.weight"], w[f"{layer}.bias"], stride)
        x = torch.tanh(x) if i < 5 else x
    return x.flatten(1)


def decoded(w, name, v):
    h = v[:, :, None, None]
    for i, stride in enumerate(STRIDES):
        layer = f"{name}.layers.{i}"
        h = F.conv_transpose2d(h, w[f"{layer}.weight"], w[f"{layer}.bias"], stride)
        h = torch.tanh(h) if i < 5 else h
    return h


def bce(logits, bits):
    "Summed over units, (B,)."
    p = logits.sigmoid()
    return -(bits * p.log() + (1 - bits) * (1 - p).log()).sum(1)


def one_hot(labels):
    return torch.eye(K)[labels]


class Oracle:
    "A student: weights as leaves, by the names of the model under test."

    def __init__(self, student, sizes, generator):
        self.w = {k: v.detach().clone().requires_grad_() for k, v in student.state_dict().items()}
        self.nz0, self.nz1, _ = sizes
        self.generator, self.gradients = generator, {}

    def bits(self, logits):
        p = logits.sigmoid()
        return (torch.rand(p.shape, generator=self.generator) < p).double()

    def classes(self, logits):
        u = torch.rand(logits.shape, generator=self.generator)
        return one_hot((logits - (-u.log()).log()).argmax(1))

    @torch.no_grad()
    def sampled(self, c):
        z0 = self.bits(torch.zeros(len(c), self.nz0))
        z1 = self.bits(three_layers(self.w, "x.prior", torch.cat([c, z0], 1)))
        mu = decoded(self.w, "x.decoder", torch.cat([c, z1], 1))
        noise = torch.randn(mu.shape, generator=self.generator)
        return z0, z1, mu + self.w["x.lsigma"].exp() * noise

    def learn(self, loss, model):
        names = [k for k in self.w if k.split(".")[0] == model]
        gradients = torch.autograd.grad(loss, [self.w[k] for k in names])
        for name, g in zip(names, gradients):
            self.gradients[name] = g
            with torch.no_grad():  # Adam's first step: both averages are unbiased
                self.w[name] -= STEPSIZE * g / (g.square().sqrt() + 1e-8)
        return loss.item()

    def c_step(self, c, x):
        logits = encoded(self.w, "c", x)
        return self.learn(-(c * logits.log_softmax(1)).sum(1).mean(), "c")

    def q_z1(self, c, x):
        return encoded(self.w, "x.q1", x) + F.linear(c, self.w["x.of_class.weight"])

    def q_z0(self, c, z1):
        return three_layers(self.w, "x.q0", torch.cat([c, z1], 1))

    def x_step(self, c, x):
        with torch.no_grad():
            z1 = self.bits(self.q_z1(c, x))
            z0 = self.bits(self.q_z0(c, z1))
        z0_, z1_, x_ = self.sampled(c)
        mu, s = decoded(self.w, "x.decoder", torch.cat([c, z1], 1)), self.w["x.lsigma"].exp()
        log_p = torch.distributions.Normal(mu, s).log_prob(x).flatten(1).sum(1)
        first = bce(three_layers(self.w, "x.prior", torch.cat([c, z0], 1)), z1) - log_p
        second = bce(self.q_z1(c, x_), z1_) + bce(self.q_z0(c, z1_), z0_)
        return self.learn((first + second).mean(), "x") / (784 + 2 * self.nz1 + self.nz0)


def symmetric(student, c, x):
    drawn = student.sampled(c)[2]
    first = student.c_step(torch.cat([c, c]), torch.cat([x, drawn]))
    with torch.no_grad():
        guessed = student.classes(encoded(student.w, "c", x))
    return first, student.x_step(torch.cat([c, guessed]), torch.cat([x, x]))


def oracle_step(method, students, batch):
    sent, losses = [], []
    if method == "cooperative":
        for student, labels in zip(students, batch[1::2]):
            c = student.classes(torch.zeros(len(labels), K))
            sent.append((c, student.sampled(c)[2]))
    for i, student in enumerate(students):
        x = batch[2 * i] / 255
        x = x + 0.01 * torch.randn(x.shape, generator=student.generator)
        c, others = one_hot(batch[2 * i + 1]), [s for s in students if s is not student]
        if method == "distillation":
            with torch.no_grad():
                answers = [one_hot(encoded(s.w, "c", x).argmax(1)) for s in others]
            c, x = torch.cat([c, *answers]), torch.cat([x] * (1 + len(others)))
        if method == "cooperative":
            received = [pairs for j, pairs in enumerate(sent) if j != i]
            c, x = (torch.cat(parts) for parts in zip((c, x), *received))
        if method in ("symmetric", "cooperative"):
            losses.append(symmetric(student, c, x))
        else:
            losses.append((student.c_step(c, x), student.x_step(c, x)))
    return {name: mean(values) for name, values in zip("cx", zip(*losses))}


@pytest.mark.parametrize("method", METHODS)
def test_a_step_is_that_of_the_paper(method, in_float64):
    torch.manual_seed(0)
    students = [Student(*sizes, n_classes=K) for sizes in SIZES]
    generator = generator_for("flics_fashion", SEED)
    oracles = [Oracle(s, sizes, generator) for s, sizes in zip(students, SIZES)]
    game = Students(students, method, STEPSIZE, SEED)
    batch = []
    for _ in SIZES:
        batch.append(torch.randint(256, (5, 1, 28, 28), dtype=torch.uint8))
        batch.append(torch.randint(K, (5,)))
    ours, theirs = game.step(batch), oracle_step(method, oracles, batch)
    assert {k: v.item() for k, v in ours.items()} == pytest.approx(theirs, rel=1e-6)
    for student, oracle in zip(students, oracles):
        for name, weight in student.named_parameters():
            wanted = oracle.gradients[name]
            assert torch.allclose(weight.grad, wanted, rtol=1e-5, atol=1e-8), name
            assert torch.allclose(weight, oracle.w[name], rtol=1e-4, atol=1e-5), name


def fashion_is_here() -> bool:
    try:
        return find_collection(IDX["fashion_mnist"]) is not None
    except DataError:
        return False


@pytest.mark.skipif(not fashion_is_here(), reason="Fashion-MNIST is not here")
def test_hundred_steps_come_where_the_published_ones_do():
    "Discriminative, ten images of a class, stepsize 1e-3: means over the students."
    published, found = {"c": 0.9898, "own": 0.9325, "test": 0.6343, "x": 0.6958}, []
    sizes = {"nz0": [4, 8, 12, 16], "nz1": [8, 16, 24, 32], "channels": [2, 4, 8, 16]}
    config = sizes | {
        "data": "fashion_mnist",
        "method": "discriminative",
        "alone": 0,
        "sigma_init": 1.0,
    }
    config |= {"examples_per_class": 10, "batch_size": 100, "stepsize": 1e-3, "niterations": 100}
    for seed in range(3):
        torch.manual_seed(seed)
        training = build(config, Context(torch.device("cpu"), None, {}, seed))
        game, losses = training.model, []
        for t in range(100):
            losses.append(game.step(training.batches(t)))
        units = [784 + 2 * s.x.nz1 + s.x.nz0 for s in game.students]
        row = {name: mean(step[name].item() for step in losses) for name in ("c", "x")}
        row["x"] *= mean(units) / (784 + 3 * 100)  # as the published program divides it
        batch = training.batches(0)
        own = [fractions_right([s], *batch[2 * i : 2 * i + 2])[0]
               for i, s in enumerate(game.students)]  # fmt: skip
        row["own"], row["test"] = mean(own), mean(training.evaluate().values())
        found.append(row)
    for name, value in published.items():
        values = [row[name] for row in found]
        spread = 4 * stdev(values) * math.sqrt(1 + 1 / len(values))
        assert abs(mean(values) - value) < spread + 0.03, (name, values)

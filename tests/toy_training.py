"""A tiny training, and what the tests of resumption do to it in processes of their own: python
tests/toy_training.py ACTION FOLDER."""

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn

from genpapers.data.batches import Batches, generator_for
from genpapers.train.checkpoint import load_state
from genpapers.train.loop import Training
from genpapers.train.runs import RunSettings, ensure
from genpapers.train.specs import Run, RunSpec

KILLS = 20
LONG = 100  # steps of the training that is killed
MEDIUM = 150  # of one on two processes, whose steps wait for each other


def note(variable: str, line: str) -> None:
    "Add a line to the file that a variable of the environment names, if it does."
    if variable in os.environ:
        with open(os.environ[variable], "a") as f:
            f.write(f"{line}\n")


def hold(step: int) -> None:
    "With TOY_HOLD, a step and a file: wait in this step until the file is there."
    at, _, path = os.environ.get("TOY_HOLD", "").partition(" ")
    while at == str(step) and not Path(path).exists():
        time.sleep(0.01)


class Toy:
    """A regression with everything that must survive: weights, Adam, a schedule, dropout, a
    generator of its own, a plain number."""

    def __init__(self, seed: int):
        self.net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 1))
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-2)
        self.schedule = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, 0.999)
        self.generator = generator_for("noise", seed)
        self.steps = 0

    def step(self, batch: tuple) -> dict[str, torch.Tensor]:
        x, y = batch
        noise = torch.randn(x.shape, generator=self.generator)
        hidden = self.net[:3](x + 0.01 * noise)  # with dropout
        loss = (self.net[3](hidden) - y).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        self.steps += 1
        time.sleep(float(os.environ.get("TOY_PAUSE", 0)))
        hold(self.steps)
        rank = os.environ.get("LOCAL_RANK")
        note("TOY_STEPS", f"{os.getpid()} {self.steps}")
        note("TOY_NOISE", json.dumps([rank, self.steps, noise.tolist(), (hidden == 0).tolist()]))
        if os.environ.get("TOY_KILL") == f"rank {rank} step {self.steps}":
            os.kill(os.getpid(), signal.SIGKILL)
        return {"loss": loss.detach()}


def build(config: dict, context) -> Training:
    x = torch.randn(50, 6, generator=generator_for("x"))
    batches = Batches((x, x.sum(1, keepdim=True)), 8, config["seed"])
    return Training(Toy(config["seed"]), batches, config["niterations"], log_every=7)


def build_bad(config: dict, context) -> Training:
    "Starts from the weights of the run that it needs; its loss is infinite at step 20."
    training = build(config, context)
    training.model.net.load_state_dict(context.needs["toy"].model.net.state_dict())
    step = training.model.step
    training.model.step = lambda batch: {
        "loss": step(batch)["loss"] * (torch.inf if training.model.steps == 20 else 1)
    }
    return training


def spec(niterations: int, seed: int = 0) -> RunSpec:
    return RunSpec(
        "toy", "toy", "toy_training:build", {"niterations": niterations, "seed": seed}, seed
    )


def settings(folder: Path, **more) -> RunSettings:
    "Where and how; a checkpoint is written after every step."
    return RunSettings(
        **{"runs_dir": folder, "device": "cpu", "precision": "float32", "checkpoint_seconds": 0}
        | more
    )


def train(folder: Path, niterations: int) -> Run:
    return ensure(spec(niterations), settings(folder))


def step_saved(folder: Path) -> int:
    "The step of the one toy's checkpoint below a folder, while it may be replaced; 0 without one."
    for path in folder.glob("toy/toy-*/checkpoint.safetensors"):
        copy = shutil.copy(
            path, folder / "copy.safetensors"
        )  # a checkpoint is opened more than once when it is read
        return load_state(copy)["step"]
    return 0


def wait_for_step(folder: Path, more_than: int) -> int:
    "The step of the checkpoint as soon as it is beyond a number."
    deadline = time.monotonic() + 900
    while time.monotonic() < deadline:
        if (step := step_saved(folder)) > more_than:
            return step
        time.sleep(0.02)
    raise TimeoutError(f"no checkpoint beyond step {more_than}")


def child(work) -> int:
    "Do the work in a process of its own; its number."
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return pid


def status_of(pid: int) -> int:
    "How a child has ended; negative: the signal that ended it."
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Moments:
    """The moments of a process are calls of functions and their returns, Python's and C's:
    thousands lie in every step, in every row of metrics and in every checkpoint, however fast the
    machine is. They are counted before `build` is called and from then on."""

    def __init__(self):
        self.before = self.after = self.writing = 0

    def __call__(self, frame, event: str, argument) -> None:
        code = frame.f_code
        if self.after or (code.co_name == "build" and code.co_filename == __file__):
            self.after += 1
        else:
            self.before += 1
        self.writing += event == "c_call" and argument in (os.fsync, os.replace)
        if any(vars(self)[name] == number for name, number in self.last.items()):
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, work: Callable, **last: int) -> None:
        "Do the work; the process is killed when one of the counts is at its last."
        self.last = last
        sys.setprofile(self)
        try:
            work()
        finally:
            sys.setprofile(None)


def undisturbed(folder: Path) -> None:
    "Train from beginning to end, and write down how many moments that has."
    moments = Moments()
    moments.watch(lambda: train(folder / "whole", LONG))
    (folder / "moments.json").write_text(json.dumps([moments.before, moments.after]))


def lives(before: int, after: int) -> Iterator[dict[str, int]]:
    """When each process is killed: three times anywhere in a training, then while it writes a
    file, then before it trains."""
    dice = random.Random(0)
    for number in range(KILLS):
        if number % 5 == 3:
            yield {"writing": dice.randrange(5, 15)}
        elif number % 5 == 4:
            yield {"before": dice.randrange(1, before)}
        else:
            yield {"after": dice.randrange(1, after // 10)}


def kill_and_resume(folder: Path) -> dict:
    "Train undisturbed; train again, killed again and again; what is to be compared."
    train(folder / "warm", 1)  # what is loaded late is loaded before the forks
    torch.manual_seed(0)  # as a fresh process has it
    status_of(child(lambda: undisturbed(folder)))
    work, saved = (lambda: train(folder / "killed", LONG)), []
    for life in lives(*json.loads((folder / "moments.json").read_text())):
        if status_of(child(lambda life=life: Moments().watch(work, **life))) == -signal.SIGKILL:
            saved.append(step_saved(folder / "killed"))
            for metrics in (folder / "killed").glob("toy/toy-*/metrics.csv"):
                with metrics.open("a") as f:
                    f.write(f"{saved[-1] + 1},lo")  # as if it had died within the row
    torn = len(list((folder / "killed").glob("toy/toy-*/.checkpoint.safetensors.*")))
    return {"saved": saved, "torn": torn, "status": status_of(child(work))}


def pair(folder: Path) -> list[bool]:
    "Two processes want the same run at once; which of them found it finished."

    def want(number: int) -> None:
        run = train(folder, 300)
        (folder / f"{number}.json").write_text(json.dumps(run.reused))

    folder.mkdir(parents=True, exist_ok=True)
    for pid in [child(lambda n=n: want(n)) for n in range(2)]:
        os.waitpid(pid, 0)
    return [json.loads((folder / f"{n}.json").read_text()) for n in range(2)]


ACTIONS = {
    "kill": kill_and_resume,
    "pair": pair,
    "long": lambda folder: train(folder, 10**8),
    "two": lambda folder: ensure(spec(MEDIUM), settings(folder, devices=2)),
    "two, long": lambda folder: ensure(spec(10**8), settings(folder, devices=2)),
}

if __name__ == "__main__":
    print(json.dumps(ACTIONS[sys.argv[1]](Path(sys.argv[2]))))

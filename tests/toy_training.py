"""A tiny training, and what the tests of resumption do to it in processes of their own: python tests/toy_training.py ACTION FOLDER."""

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import torch
from torch import nn

from genpapers.data.batches import Batches, generator_for
from genpapers.train.checkpoint import load_state
from genpapers.train.loop import Training
from genpapers.train.runs import Run, RunSettings, RunSpec, ensure

KILLS = 20
LONG = 1500  # steps of the training that is killed
MEDIUM = 150  # of one on two processes, whose steps wait for each other


class Toy:
    "A regression with everything that must survive: weights, Adam, a schedule, dropout, a generator of its own, a plain number."

    def __init__(self, seed: int):
        self.net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 1))
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-2)
        self.schedule = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, 0.999)
        self.generator = generator_for("noise", seed)
        self.steps = 0

    def step(self, batch: tuple) -> dict[str, torch.Tensor]:
        x, y = batch
        noisy = x + 0.01 * torch.randn(x.shape, generator=self.generator)
        loss = (self.net(noisy) - y).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        self.steps += 1
        time.sleep(float(os.environ.get("TOY_PAUSE", 0)))
        if "TOY_STEPS" in os.environ:
            with open(os.environ["TOY_STEPS"], "a") as f:
                f.write(f"{os.getpid()} {self.steps}\n")
        if os.environ.get("TOY_KILL") == f"rank {os.environ.get('LOCAL_RANK')} step {self.steps}":
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
    return RunSettings(
        **{"runs_dir": folder, "device": "cpu", "precision": "float32", "checkpoint_seconds": 0.01}
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


def kill_and_resume(folder: Path) -> dict:
    "Train undisturbed; train again, killed at random moments; what is to be compared."
    torch.manual_seed(0)  # as a fresh process has it
    begun = time.monotonic()
    os.waitpid(child(lambda: train(folder / "whole", LONG)), 0)
    whole = time.monotonic() - begun
    dice, kills, held = random.Random(), 0, 0
    while kills < KILLS:
        pid = child(lambda: train(folder / "killed", LONG))
        time.sleep(dice.uniform(0, whole / 16))
        os.kill(pid, signal.SIGKILL)
        kills += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
        held += any((folder / "killed").glob("toy/toy-*/checkpoint.safetensors"))
        if any((folder / "killed").glob("toy/toy-*/done.json")):
            break
    resumed = child(lambda: train(folder / "killed", LONG))
    status = os.waitpid(resumed, 0)[1]
    return {
        "kills": kills,
        "killed with a checkpoint": held,
        "status": os.waitstatus_to_exitcode(status),
    }


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
}

if __name__ == "__main__":
    print(json.dumps(ACTIONS[sys.argv[1]](Path(sys.argv[2]))))

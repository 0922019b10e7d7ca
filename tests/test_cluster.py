"""Runs on a Dask cluster: a cluster that is closed, a worker that is killed, GPUs as resources."""

import os
import signal
from pathlib import Path

import pytest
from places import ROOT
from test_resume import only, same
from toy_training import settings, spec, step_saved, wait_for_step

from genpapers.base.files import UserError
from genpapers.companion.cluster import cluster, make_run, resources_of
from genpapers.train.checkpoint import load_state
from genpapers.train.runs import ensure

STEPS = 400


def start(client, folder: Path):
    return client.submit(
        make_run, spec(STEPS), settings(folder, checkpoint_seconds=0.1), ROOT, key="toy/toy-1"
    )


def worker_at_work(client) -> int:
    "The process that has the one task."
    address = next(a for a, tasks in client.processing().items() if tasks)
    return client.run(os.getpid, workers=[address])[address]


def steps_made(path: Path) -> list[list[int]]:
    "The steps that each process made, in the order of the processes."
    made: dict[str, list[int]] = {}
    for line in path.read_text().splitlines():
        pid, step = line.split()
        made.setdefault(pid, []).append(int(step))
    return list(made.values())


def test_closed_clusters_and_killed_workers_cost_unfinished_steps_only(tmp_path, monkeypatch):
    "Both happen to one run, in a worker's thread; the bits are those of an undisturbed run."
    folder, record = tmp_path / "cluster", tmp_path / "steps.txt"
    monkeypatch.setenv("TOY_STEPS", str(record))
    monkeypatch.setenv("TOY_PAUSE", "0.03")  # there is time to kill it
    with cluster() as client:
        start(client, folder)
        wait_for_step(folder, 20)
    closed_at = step_saved(folder)  # its last steps were made while it closed
    with cluster() as client:
        future = start(client, folder)
        killed_at = wait_for_step(folder, closed_at + 40)
        first = worker_at_work(client)
        os.kill(first, signal.SIGKILL)
        result = future.result(timeout=900)
    monkeypatch.delenv("TOY_STEPS")
    monkeypatch.delenv("TOY_PAUSE")
    assert not result["reused"]
    made = steps_made(record)
    assert (
        len(made) == 3
        and made[-1][-1] == STEPS
        and all(steps == list(range(steps[0], steps[-1] + 1)) for steps in made)
    )
    assert (
        made[0][0] == 1
        and closed_at < made[1][0] <= made[0][-1] + 1
        and killed_at < made[2][0] <= made[1][-1] + 1
    )
    whole = ensure(spec(STEPS), settings(tmp_path / "whole", checkpoint_seconds=60))
    assert Path(result["folder"]).name == whole.folder.name
    states = [
        load_state(Path(f) / "checkpoint.safetensors") for f in (whole.folder, result["folder"])
    ]
    for part in ("step", "model", "averages"):
        assert same(states[0][part], states[1][part]), part
    assert (whole.folder / "metrics.csv").read_bytes() == only(
        folder, "toy/toy-*/metrics.csv"
    ).read_bytes()


class Scheduler:
    "A client of workers that offer so many GPUs each."

    def __init__(self, *gpus: int):
        self.workers = {
            f"tcp://{i}": {"resources": {"GPU": n} if n else {}} for i, n in enumerate(gpus)
        }

    def scheduler_info(self, **_) -> dict:
        return {"workers": self.workers}


def test_runs_go_where_the_gpus_are():
    here = Path("runs")
    assert resources_of(settings(here, device="auto"), Scheduler(0, 0)) is None
    assert resources_of(settings(here, device="cpu"), Scheduler(1)) is None
    assert resources_of(settings(here, device="auto"), Scheduler(0, 1)) == {"GPU": 1}
    assert resources_of(settings(here, device="cuda", devices=4), Scheduler(0, 4)) == {"GPU": 4}
    assert resources_of(settings(here, device="cuda"), Scheduler()) == {
        "GPU": 1
    }  # workers may still come
    for scheduler, number in ((Scheduler(0), 1), (Scheduler(1, 1), 2)):
        with pytest.raises(UserError, match=f"no worker of the cluster offers {number} GPU"):
            resources_of(settings(here, device="cuda", devices=number), scheduler)

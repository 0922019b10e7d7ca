"""One run on two processes: the numbers of one, ranks that are killed, stopped and broken."""

import json
import signal
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from states import same
from test_resume import only, start
from toy_training import MEDIUM, settings, spec, step_saved, wait_for_step

from genpapers.mnist_style.plan import plan
from genpapers.train.checkpoint import load_state
from genpapers.train.loop import TrainingError
from genpapers.train.runs import ensure


def test_a_model_without_noise_learns_the_same_on_two_processes(tmp_path):
    "Batches of 256 rows, the last of 160: the shares are even."
    values = {
        "dataset": "mnist5k",
        "data_dir": None,
        "pictures": None,
        "seeds": 1,
        "models": ["simple"],
        "batch_size": 256,
        "niterations": 20,
        "epochs": 1,
        "epochs_simple": 1,
    }
    values |= {"feat_size": 3, "stepsize": 1e-3, "give_label": False, "seed": 0}
    run = plan(SimpleNamespace(**values))[0]
    one, two = (ensure(run, settings(tmp_path, devices=n, checkpoint_seconds=60)) for n in (1, 2))
    assert (
        one.metrics.columns.tolist() == two.metrics.columns.tolist()
        and len(one.metrics) == len(two.metrics) == 2
    )
    first, second = (
        r.metrics.loc[:, ~r.metrics.columns.str.contains("error|style")].to_numpy()
        for r in (one, two)
    )
    np.testing.assert_allclose(first, second, rtol=2e-4)
    weights = [next(r.model.net.parameters()).detach().numpy() for r in (one, two)]
    np.testing.assert_allclose(*weights, atol=1e-4)


def test_killed_ranks_cost_their_own_steps_only(tmp_path, monkeypatch):
    """Rank 1 dies, rank 0 dies, the process that waits for them dies; with dropout and noise the
    result has the same bits."""
    whole = ensure(spec(MEDIUM), settings(tmp_path / "whole", devices=2))
    killed = settings(tmp_path / "killed", devices=2)
    for rank, step in ((1, 30), (0, 60)):
        monkeypatch.setenv("TOY_KILL", f"rank {rank} step {step}")
        with pytest.raises(TrainingError):
            ensure(spec(MEDIUM), killed)
        reached = step_saved(tmp_path / "killed")
        assert 0 < reached <= step
    monkeypatch.delenv("TOY_KILL")
    monkeypatch.setenv("TOY_HOLD", f"90 {tmp_path / 'goes on'}")
    process = start("two", tmp_path / "killed")
    wait_for_step(tmp_path / "killed", reached)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (tmp_path / "goes on").touch()  # the ranks notice that they are alone
    monkeypatch.delenv("TOY_HOLD")
    again = ensure(spec(MEDIUM), killed)
    assert not again.reused and again.key == whole.key
    states = [load_state(r.folder / "checkpoint.safetensors") for r in (whole, again)]
    for part in ("step", "model", "averages", "random"):
        assert same(states[0][part], states[1][part]), part
    assert (whole.folder / "metrics.csv").read_bytes() == (
        again.folder / "metrics.csv"
    ).read_bytes()


def test_noise_differs_between_ranks_and_the_loss_falls_as_in_one_process(tmp_path, monkeypatch):
    one = ensure(spec(200), settings(tmp_path))
    monkeypatch.setenv("TOY_NOISE", str(tmp_path / "noise.txt"))
    two = ensure(spec(200), settings(tmp_path, devices=2))
    assert one.key != two.key
    for run in (one, two):
        assert run.metrics["loss"].iloc[-1] < run.metrics["loss"].iloc[0] / 3
    drawn = {"0": {}, "1": {}}
    for line in (tmp_path / "noise.txt").read_text().splitlines():
        rank, step, noise, dropped = json.loads(line)
        drawn[rank][step] = noise, dropped
    first, second = drawn.values()
    assert list(first) == list(second) == list(range(1, 201))
    assert all(first[step][0] != second[step][0] for step in range(2, 201))  # the first is shared
    assert sum(first[step][1] != second[step][1] for step in first) > 150


def test_a_signal_saves_and_stops(tmp_path):
    process = start("two, long", tmp_path)
    before = wait_for_step(tmp_path, 0)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=240)
    assert process.returncode == -signal.SIGINT
    assert step_saved(tmp_path) >= before
    assert not list(tmp_path.glob("toy/toy-*/done.json"))


def test_what_breaks_is_one_sentence(tmp_path):
    "A run that needs another and fails on both ranks."
    here = settings(tmp_path, devices=2)
    need = ensure(spec(30), replace(here, devices=1))
    bad = replace(spec(50), name="bad", entry="toy_training:build_bad", needs=("toy",))
    with pytest.raises(
        TrainingError, match="^loss was not finite at step 19; the last good checkpoint is kept"
    ):
        ensure(bad, here, {"toy": need})
    assert "TrainingError" in only(tmp_path, "toy/bad-*/error.txt").read_text()

"""Runs that leave one machine and arrive on another: never anything but what was sent."""

import json
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from zipfile import ZipFile

import pytest
import toy_training
from click.testing import CliRunner
from places import ROOT, environment
from toy_training import settings, spec

from genpapers.base.files import UserError, file_digest
from genpapers.base.paper import find_paper
from genpapers.companion.cli import main
from genpapers.companion.receiving import import_run
from genpapers.companion.sharing import export_run
from genpapers.train import runs
from genpapers.train.runs import ensure, ensure_all

RANDOM_FLIPS = 300


@pytest.fixture(scope="module")
def sent(tmp_path_factory):
    "A finished toy run and its archive."
    folder = tmp_path_factory.mktemp("sent")
    run = toy_training.train(folder / "runs", 40)
    return run, export_run(run.folder, folder / "run.zip")


def forbid_training(monkeypatch):
    monkeypatch.setattr(runs, "fit", lambda *_, **__: pytest.fail("a training was started"))


def contents(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def test_an_imported_run_is_used_as_if_it_had_been_trained_here(sent, tmp_path, monkeypatch):
    run, archive = sent
    folder, _, new = import_run(archive, tmp_path)
    forbid_training(monkeypatch)
    found = ensure(spec(40), settings(tmp_path))
    assert (
        new and found.reused and found.folder == folder and contents(folder) == contents(run.folder)
    )
    assert found.metrics.equals(run.metrics)


def test_a_paper_finds_its_imported_runs_and_says_why_it_would_not(tmp_path, monkeypatch):
    from genpapers.mnist_style.plan import plan

    given = dict(seed=0, niterations=2, models=["simple"], give_label=False)
    given |= {"data_dir": None, "pictures": None}
    specs = plan(SimpleNamespace(**find_paper("mnist_style").scales["smoke"] | given))
    there = {n: r for n, r in ensure_all(specs, settings(tmp_path / "there")).items()}
    call = CliRunner().invoke
    for run in there.values():
        name = f"mnist_style/{run.folder.name}"
        out = call(
            main,
            ["export", name, "-o", str(tmp_path / "a.zip"), "--runs-dir", str(tmp_path / "there")],
        )
        assert out.exit_code == 0 and file_digest(tmp_path / "a.zip") in out.output
        back = call(main, ["import", str(tmp_path / "a.zip"), "--runs-dir", str(tmp_path / "here")])
        assert (
            back.exit_code == 0
            and "The notebook mnist_style uses it with device cpu, devices 1, precision float32"
            in back.output
        ), back.output
    forbid_training(monkeypatch)
    assert all(r.reused for r in ensure_all(specs, settings(tmp_path / "here")).values())
    monkeypatch.setattr("genpapers.companion.receiving.code_of", lambda *_: "other code")
    again = call(main, ["import", str(tmp_path / "a.zip"), "--runs-dir", str(tmp_path / "here")])
    assert (
        "is here already, the same. A notebook here will not use it: "
        "the code behind genpapers.mnist_style.training differs." in again.output
    )


def refused_or_intact(damaged: Path, root: Path, run) -> bool:
    "Whether a file is refused and leaves nothing, or holds the very run."
    try:
        folder, _, _ = import_run(damaged, root)
    except UserError as e:
        return "\n" not in str(e) and list(root.glob("*")) == []
    intact = contents(folder) == contents(run.folder)
    for path in sorted(root.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    return intact


def test_no_flipped_bit_and_no_missing_end_gets_through(sent, tmp_path):
    run, archive = sent
    whole, dice = archive.read_bytes(), random.Random(0)
    places = [dice.randrange(len(whole)) for _ in range(RANDOM_FLIPS)]
    places += range(whole.index(b"done.json"), len(whole), 3)  # with the table of contents
    places += range(120)
    damaged, root = tmp_path / "damaged.zip", tmp_path / "runs"
    root.mkdir()
    for place in places:
        damaged.write_bytes(
            whole[:place] + bytes([whole[place] ^ (1 << dice.randrange(8))]) + whole[place + 1 :]
        )
        assert refused_or_intact(damaged, root, run), f"byte {place}"
    for end in [0, 1, 30, *(dice.randrange(len(whole)) for _ in range(20)), len(whole) - 1]:
        damaged.write_bytes(whole[:end])
        with pytest.raises(UserError):
            import_run(damaged, root)
    assert list(root.glob("*")) == []


def test_an_import_that_is_killed_leaves_no_run(sent, tmp_path):
    _, archive = sent
    program = f"""
import os
from genpapers.companion import receiving
receiving._move_in = lambda *_: os._exit(9)
receiving.import_run({str(archive)!r}, {str(tmp_path / "runs")!r})
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment(measured=False),
        timeout=120,
        check=False,
    )
    assert done.returncode == 9 and not list((tmp_path / "runs").glob("*/*/done.json"))
    shown = CliRunner().invoke(main, ["status", "--runs-dir", str(tmp_path / "runs")]).output
    assert "There are no runs" in shown
    assert import_run(archive, tmp_path / "runs")[2]


@pytest.mark.parametrize("member", ["config.json", "metrics.csv", "done.json"])
@pytest.mark.parametrize(
    "content",
    ["[" * 100_000, "null", "{}", '{"digests": 3}', "\x00", '{"digests": {}, "seconds": 1}'],
)
def test_nonsense_is_a_sentence(sent, tmp_path, member, content):
    with ZipFile(sent[1]) as old, ZipFile(tmp_path / "bad.zip", "w") as new:
        files = {n: old.read(n) for n in old.namelist()} | {member: content.encode()}
        if member != "done.json":  # with a done.json that fits
            done = json.loads(files["done.json"])
            (tmp_path / "x").write_bytes(files[member])
            done["digests"][member] = file_digest(tmp_path / "x")
            files["done.json"] = json.dumps(done).encode()
        for name, data in files.items():
            new.writestr(name, data)
    with pytest.raises(UserError, match="was not imported"):
        import_run(tmp_path / "bad.zip", tmp_path / "runs")
    assert list((tmp_path / "runs").glob("*")) == []

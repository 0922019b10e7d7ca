"""`genpapers new-paper` in a copy of the checkout: the new paper's pages run, the house is in
order, its training at scale smoke leaves a figure and a verdict."""

import json
import shutil
import subprocess
import sys

import pytest
from places import BIN, ROOT, environment

NEEDED = ("settings.ini", "setup.py", "ruff.toml", "pytest.ini", "README.md")
ASKED = "one_way or circle or every_room or 100_columns or unique or presets or defines or light"


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkout")
    unwanted = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "*_smoke*")
    for name in ("nbs", "genpapers", "tests", "scripts"):
        shutil.copytree(ROOT / name, folder / name, ignore=unwanted)
    for name in NEEDED:
        shutil.copy(ROOT / name, folder)
    call(folder, "-c", "from genpapers.companion.cli import main; main()", "new-paper", "toy",
         "--title", "A toy")  # fmt: skip
    return folder


def call(folder, *command) -> str:
    env = environment(measured=False, PYTHONPATH=str(folder), GENPAPERS_DATA="")
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_house_is_in_order(copy):
    pytest_ = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_house.py")
    call(copy, *pytest_, "-k", ASKED)
    call(copy, "-m", "ruff", "check", "genpapers/toy")


def test_its_pages_run(copy):
    call(copy, BIN / "nbdev_test", "--path", "nbs/toy", "--n_workers", "0")


def test_it_trains_and_decides_its_claim(copy):
    places = ("-p", "runs_dir", copy / "runs", "-p", "figures_dir", copy / "figures")
    main = "from genpapers.companion.cli import main; main()"
    call(copy, "-c", main, "run", "toy", "--scale", "smoke", *places)
    results = json.loads((copy / "figures" / "toy" / "results.json").read_text())
    assert list(results["figures"]) == ["reconstructions"] and len(results["runs"]) == 1
    assert [c["name"] for c in results["claims"]] == ["C1"]
    program = "from genpapers.companion.ledger import account, find_reproductions as find\n"
    program += "from pathlib import Path; print(account('toy', find(Path('figures')), Path('nbs')))"
    assert "**C1. A few numbers say more" in call(copy, "-c", program)

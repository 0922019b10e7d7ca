"""The paper notebooks and the first page in a real JupyterLab: every cell runs, and an explorer's picture follows its controls."""

import shutil
import subprocess

import browser
import lab
import pytest
from places import ROOT, environment

from genpapers.base.paper import PAPERS

EXPLORERS = {
    "start": "start-explorer",
    "mnist_style": "explorer",
    "nfpi": "nfpi-nb-explorer",
    "amr": "explorer",
}  # notebook -> its explorer's cell


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    "A project of copies at scale smoke: what they train and draw stays in it."
    folder = tmp_path_factory.mktemp("project")
    (folder / "nbs").mkdir()
    shutil.copy(ROOT / "settings.ini", folder)
    for name in ("start", *PAPERS):
        lab.fresh_copy(
            ROOT / "nbs" / f"{name}.ipynb",
            folder / "nbs" / f"{name}.ipynb",
            {'scale: str = "quick"': 'scale: str = "smoke"'},
        )
    return folder


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as running:
        yield running


@pytest.fixture(scope="module")
def url(chromium, project, tmp_path_factory):
    with lab.jupyterlab(project, tmp_path_factory.mktemp("jupyter")) as address:
        yield address


def moved(notebook: lab.Notebook, cell, control) -> bool:
    "Whether the cell's picture becomes another when a control is moved by a key."
    before = lab.picture(cell)
    control.focus()
    notebook.page.keyboard.press("ArrowRight")
    return lab.until(lambda: lab.picture(cell) != before, seconds=lab.PATIENCE)


@pytest.mark.parametrize("name", ("start", *PAPERS))
def test_notebook_runs_and_its_explorer_moves(name, chromium, url):
    with lab.open_notebook(chromium, url, f"nbs/{name}.ipynb") as notebook:
        cells = notebook.run_all(seconds=1500)
        assert not lab.problems_of(cells)
        assert (
            sum("image/png" in o.get("data", {}) for c in cells for o in c.get("outputs", [])) >= 2
        )
        if name in EXPLORERS:
            cell = notebook.show(EXPLORERS[name])
            handles = cell.locator(".noUi-handle")
            assert handles.count() >= 1 and moved(notebook, cell, handles.nth(0))
            assert moved(notebook, cell, handles.nth(handles.count() - 1))
        assert not notebook.problems


def test_a_failing_cell_and_a_dead_kernel_are_noticed(chromium, url, project):
    lab.write_notebook(project / "fails.ipynb", ["1 / 0", "print('never')"])
    lab.write_notebook(
        project / "dies.ipynb", ["import os; os.kill(os.getpid(), 9)", "print('never')"]
    )
    with lab.open_notebook(chromium, url, "fails.ipynb") as notebook:
        assert any(
            "ZeroDivisionError" in p
            for p in lab.problems_of(notebook.run_all(seconds=lab.PATIENCE))
        )
    with (
        lab.open_notebook(chromium, url, "dies.ipynb") as notebook,
        pytest.raises(AssertionError, match="the kernel died"),
    ):
        notebook.run_all(seconds=lab.PATIENCE)


def test_make_lab_opens_the_first_page():
    target = subprocess.run(
        ["make", "-n", "lab"],
        cwd=ROOT,
        env=environment(measured=False),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    command = next(line for line in target.splitlines() if "jupyter lab" in line)
    assert command.split()[-1] == "nbs/start.ipynb" and (ROOT / "nbs/start.ipynb").exists()

"""The paper notebooks and the first page in a real JupyterLab: every cell runs, and an explorer's
picture follows its controls."""

import shutil
import subprocess
import time
from collections.abc import Callable

import browser
import lab
import pytest
from places import ROOT, environment

from genpapers.base.files import read_json
from genpapers.base.paper import PAPERS, find_paper

EXPLORERS = {
    "start": "start-explorer",
    "mnist_style": "explorer",
    "symvae": "svnb0x02",
    "polymnist": "pz000031",
    "flics_digits": "flnb0020",
    "flics_fashion": "ffnb0019",
    "nfpi": "nfpi-nb-explorer",
    "amr": "explorer",
}  # notebook -> its explorer's cell


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    "A project that the notebooks are copied to: what they draw stays in it."
    folder = tmp_path_factory.mktemp("project")
    (folder / "nbs").mkdir()
    shutil.copy(ROOT / "settings.ini", folder)
    return folder


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as running:
        yield running


@pytest.fixture(scope="module")
def url(chromium, project, tmp_path_factory):
    with lab.jupyterlab(project, tmp_path_factory.mktemp("jupyter")) as address:
        yield address


def moved(cell, act: Callable[[], None]) -> float:
    "Seconds until the cell's picture is another after a reader has done something."
    before, begun = lab.picture(cell), time.monotonic()
    act()
    assert lab.until(lambda: lab.picture(cell) != before, seconds=lab.PATIENCE)
    return time.monotonic() - begun


def play(notebook: lab.Notebook, cell) -> dict[str, float]:
    "Move an explorer's first and last slider, and switch its model; the seconds that each took."
    handles = cell.locator(".noUi-handle")
    switch = cell.locator(".widget-toggle-buttons").first.locator("button:not(.mod-active)")
    assert handles.count() >= 1 and switch.count() >= 1

    def press(handle) -> None:
        "Move a slider to the right."
        handle.focus()
        notebook.page.keyboard.press("ArrowRight")

    first, last = handles.nth(0), handles.nth(handles.count() - 1)
    return {
        "first slider": moved(cell, lambda: press(first)),
        "last slider": moved(cell, lambda: press(last)),
        "model": moved(cell, lambda: switch.first.click()),
    }


def changes(runs_dir: str) -> dict[str, str]:
    "What makes a copy find the runs that papermill has made, so that it only draws."
    found = {"runs_dir: str = None": f"runs_dir: str = {runs_dir!r}"}
    return found | {'scale: str = "quick"': 'scale: str = "smoke"'}


@pytest.mark.parametrize("name", ("start", *PAPERS))
def test_notebook_runs_and_its_explorer_moves(name, chromium, url, project, papermill_run):
    made = papermill_run(find_paper(name)) if name in PAPERS else None
    copy = f"nbs/{name}.ipynb"
    lab.fresh_copy(ROOT / copy, project / copy, changes(made.runs_dir) if made else {})
    with lab.open_notebook(chromium, url, copy) as notebook:
        cells = notebook.run_all(seconds=1500)
        assert not lab.problems_of(cells)
        assert (
            sum("image/png" in o.get("data", {}) for c in cells for o in c.get("outputs", []))
            >= (min(2, len(find_paper(name).figures)) if made else 2)
        )
        if name in EXPLORERS:
            cell = notebook.show(EXPLORERS[name])
            seconds = play(notebook, cell)
            print(name, {what: f"{1000 * took:.0f} ms" for what, took in seconds.items()})
        assert not notebook.problems
    if made:
        results = read_json(project / "figures" / "smoke" / name / "results.json")
        assert results["runs"] and all(run["reused"] for run in results["runs"].values())


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

"""A JupyterLab of the tests' own, and what a reader does in it: open a notebook, run all cells,
move a control, look at the picture."""

import contextlib
import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from places import BIN, ROOT, environment
from playwright.sync_api import Browser, Error, Locator, Page, expect

TOKEN, PATIENCE = "of-a-test", 300  # seconds: a machine may be busy
OPTIONS = [
    "--no-browser",
    "--allow-root",
    "--expose-app-in-browser",
    "--ServerApp.ip=127.0.0.1",
    f"--IdentityProvider.token={TOKEN}",
    "--LabApp.news_url=None",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
]
FOLDERS = (
    "JUPYTER_CONFIG_DIR",
    "JUPYTER_RUNTIME_DIR",
    "JUPYTERLAB_WORKSPACES_DIR",
    "JUPYTERLAB_SETTINGS_DIR",
    "IPYTHONDIR",
)
# Running all cells before the kernel is idle runs nothing; a test awaits `ended` or `finished`.
RUN_ALL = """async () => {
  const app = window.jupyterapp; await app.restored;
  const panel = app.shell.currentWidget;
  await panel.context.ready; await panel.sessionContext.ready;
  window.panel = panel; window.finished = false; window.ended = '';
  const gone = ['dead', 'autorestarting', 'restarting'];
  const note = (_, s) => { if (gone.includes(s)) window.ended ||= s; };
  panel.sessionContext.statusChanged.connect(note);
  const idle = () => panel.sessionContext.session?.kernel?.status === 'idle';
  while (!idle()) await new Promise(r => setTimeout(r, 100));
  app.commands.execute('notebook:run-all-cells').finally(() => { window.finished = true; });
}"""
SHOW_CELL = """async id => {
  const i = [...panel.model.cells].findIndex(c => c.id === id); panel.content.activeCellIndex = i;
  await panel.content.scrollToCell(panel.content.widgets[i], 'start');
  panel.content.widgets[i].node.dataset.shown = id;
}"""
BYTES = "async image => [...new Uint8Array(await (await fetch(image.src)).arrayBuffer())]"


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def answers(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:
        return answer.status == 200
    return False


@contextlib.contextmanager
def jupyterlab(
    project: Path,  # the folder that it shows
    own: Path,  # an empty folder for its settings and log
    command: tuple[str, ...] = (str(BIN / "jupyter"), "lab"),
) -> Iterator[str]:
    "A running JupyterLab's address."
    port, log = free_port(), own / "jupyterlab.log"
    env = environment(
        measured=False,
        PYTHONPATH=str(ROOT),
        GENPAPERS_DATA="",
        **{name: str(own / name.lower()) for name in FOLDERS},
    )
    with log.open("w") as stream:
        server = subprocess.Popen(
            [*command, *OPTIONS, f"--ServerApp.port={port}", f"--ServerApp.root_dir={project}"],
            cwd=project,
            env=env,
            stdout=stream,
            stderr=stream,
        )
        try:
            deadline = time.monotonic() + PATIENCE
            while not answers(f"http://127.0.0.1:{port}/api?token={TOKEN}"):
                assert server.poll() is None and time.monotonic() < deadline, (
                    f"JupyterLab did not start:\n{log.read_text()[-3000:]}"
                )
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(30)


@dataclass
class Notebook:
    """A notebook in a page of JupyterLab; what the page asks for elsewhere, and its errors, are
    `problems`."""

    page: Page
    problems: list[str]

    def run_all(self, seconds: float) -> list[dict]:
        "Run all cells and wait for the last; the cells with their outputs."
        self.page.evaluate(RUN_ALL)
        self.page.wait_for_function("window.finished || window.ended", timeout=1000 * seconds)
        assert not self.page.evaluate("window.ended"), (
            f"the kernel died: it is {self.page.evaluate('window.ended')}"
        )
        return self.page.evaluate("panel.model.toJSON().cells")

    def show(self, cell_id: str) -> Locator:
        "Bring a cell into view; where to find its parts."
        self.page.evaluate(SHOW_CELL, cell_id)
        return self.page.locator(f"[data-shown='{cell_id}']")


@contextlib.contextmanager
def open_notebook(browser: Browser, url: str, path: str) -> Iterator[Notebook]:
    "A notebook open in a page; its kernel ends with the block."
    page, problems = browser.new_page(viewport={"width": 1400, "height": 1000}), []
    own = (url, url.replace("http", "ws", 1), "data:", "blob:")
    page.on(
        "request", lambda r: None if r.url.startswith(own) else problems.append(f"asks for {r.url}")
    )
    page.on("pageerror", lambda e: problems.append(f"page error: {e}"))
    page.set_default_timeout(1000 * PATIENCE)
    try:
        page.goto(f"{url}/lab/tree/{path}?token={TOKEN}&reset", wait_until="domcontentloaded")
        page.wait_for_selector(".jp-Notebook .jp-Cell")
        yield Notebook(page, problems)
    finally:
        with contextlib.suppress(Error):
            page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        page.close()


def until(holds: Callable[[], bool], seconds: float) -> bool:
    "Whether it comes to hold in that time."
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def picture(cell: Locator) -> str:
    "A digest of the bytes of a cell's last image."
    expect(cell.locator("img").last).to_be_visible(timeout=1000 * PATIENCE)
    return sha256(bytes(cell.locator("img").last.evaluate(BYTES))).hexdigest()


def problems_of(cells: list[dict]) -> list[str]:
    "Code cells that did not run, errors, and warnings."
    found = []
    for cell in (c for c in cells if c["cell_type"] == "code" and "".join(c["source"]).strip()):
        found += [] if cell["execution_count"] else [f"{cell['id']} did not run"]
        found += [
            f"{cell['id']}: {o['ename']}: {o['evalue']}"
            for o in cell["outputs"]
            if o["output_type"] == "error"
        ]
        found += [
            f"{cell['id']}: {''.join(o['text'])}"
            for o in cell["outputs"]
            if o.get("name") == "stderr"
        ]
    return found


def write_notebook(path: Path, sources: list[str]) -> None:
    "A notebook of code cells."
    cells = [
        {
            "cell_type": "code",
            "id": f"cell{i}",
            "metadata": {},
            "execution_count": None,
            "outputs": [],
            "source": s,
        }
        for i, s in enumerate(sources)
    ]
    kernel = {"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}}
    path.write_text(
        json.dumps({"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}),
        encoding="utf-8",
    )


def fresh_copy(notebook: Path, destination: Path, changes: dict[str, str]) -> None:
    "A copy without outputs, with changes to its cell of parameters if it has one."
    content = json.loads(notebook.read_text(encoding="utf-8"))
    for cell in (c for c in content["cells"] if c["cell_type"] == "code"):
        cell["outputs"], cell["execution_count"] = [], None
        if "parameters" in cell["metadata"].get("tags", []):
            for old, new in changes.items():
                assert "".join(cell["source"]).count(old) == 1
                cell["source"] = "".join(cell["source"]).replace(old, new)
    destination.write_text(json.dumps(content), encoding="utf-8")

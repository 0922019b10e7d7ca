"""The paper notebooks at scale smoke: one run of each by papermill, which many tests look at, and
runs in this process."""

import json
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock
from places import BIN, ROOT, cells, environment, source


@dataclass(frozen=True)
class Outcome:
    """What came of a notebook; its trainings lie in `runs_dir`, its figures and results in
    `figures`."""

    status: int
    errors: str
    runs_dir: str
    figures: str

    @property
    def results(self) -> dict:
        return json.loads(Path(self.figures, "results.json").read_text(encoding="utf-8"))


def papermill(notebook: str, folder: Path, **parameters) -> Outcome:
    "Run a notebook as users do, from the root, with runs and figures below a folder."
    name = Path(notebook).stem
    places = {"runs_dir": str(folder / "runs"), "figures_dir": str(folder / "figures")}
    command = [BIN / "papermill", notebook, folder / f"{name}.ipynb", "--no-progress-bar"]
    for parameter, value in (places | parameters).items():
        command += ["-p", parameter, str(value)]
    env = environment(GENPAPERS_DATA="", IPYTHONDIR=str(folder / "ipython"))
    done = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=900, check=False
    )
    return Outcome(done.returncode, done.stderr, places["runs_dir"], str(folder / "figures" / name))


def papermill_run(paper, folder: Path) -> Outcome:
    "The one run of a paper's notebook at scale smoke in a session's folder."
    record = folder / f"{paper.name}.json"
    with FileLock(record.with_suffix(".lock")):
        if not record.exists():
            outcome = papermill(paper.notebook, folder, scale="smoke")
            record.write_text(json.dumps(asdict(outcome)), encoding="utf-8")
        return Outcome(**json.loads(record.read_text(encoding="utf-8")))


def run_cells(notebook: str, values: dict) -> None:
    "Run a paper notebook's cells in this process, with parameters as papermill gives them."
    from execnb.shell import CaptureShell

    shell = CaptureShell(notebook)
    injected = "# Parameters\n" + "\n".join(f"{k} = {v!r}" for k, v in values.items())
    for cell in (c for c in cells(Path(notebook)) if c["cell_type"] == "code"):
        has_parameters = "parameters" in cell["metadata"].get("tags", [])
        for text in [source(cell)] + [injected] * has_parameters:
            error = shell.run_cell(text, store_history=True).exception
            if error:
                raise error

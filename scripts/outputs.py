"""For readers who only browse: notebooks with the outputs of the last `make reproduce`."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import nbformat
from nbclient import NotebookClient

from genpapers.base.files import write_atomically
from genpapers.base.paper import available_papers, pages_beside

BENCHES = tuple(f"{p.name}/bench.ipynb" for p in available_papers())
MEASURED = (  # run now, whatever was reproduced
    *("start.ipynb", "python.ipynb", "pictures_of_your_own.ipynb", "machines.ipynb", "keys.ipynb"),
    *("companion/growth.ipynb", *BENCHES),
)
WIDGET = "application/vnd.jupyter.widget-view+json"


def clean_outputs(outputs: list[dict]) -> list[dict]:
    "Outputs without counts, bookkeeping and warnings; of a widget what is left without a kernel."
    cleaned = []
    for output in outputs:
        data = dict(output.get("data", {}))
        is_widget = data.pop(WIDGET, None) is not None
        if output.get("name") == "stderr" or (is_widget and "image/png" not in data):
            continue  # warnings name folders; without its picture a widget shows nothing
        words = {kind: facts for kind, facts in output.get("metadata", {}).items() if kind in data}
        fixed = {"metadata": words, "execution_count": None, "data": data}
        cleaned.append({k: fixed.get(k, v) for k, v in output.items()})
    return cleaned


def with_outputs(notebook: dict, executed: dict) -> dict:
    "The notebook with the outputs of the executed cells that have its cells' ids and sources."
    found = {c["id"]: c for c in executed["cells"] if c["cell_type"] == "code"}
    for cell in notebook["cells"]:
        other = found.get(cell["id"])
        same = other and "".join(other["source"]) == "".join(cell["source"])
        if cell["cell_type"] == "code" and same:
            cell["outputs"] = clean_outputs(other["outputs"])
    return notebook


def write_with_outputs(path: Path, executed: dict) -> int:
    "Write a notebook with the outputs of its execution; its size in bytes."
    notebook = with_outputs(json.loads(path.read_text(encoding="utf-8")), executed)
    text = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    size = write_atomically(path, text).stat().st_size
    print(f"{path.relative_to(ROOT)}: {size / 1000:.0f} kB")
    return size


def main(asked: Sequence[str] = ()) -> None:
    "Write the notebooks that were run, and those that are run now; only those asked for, if any."
    measured = filter(Path.exists, (ROOT / "nbs" / name for name in MEASURED))
    wanted = lambda path: not asked or str(path.relative_to(ROOT / "nbs")) in asked
    for paper in available_papers() + pages_beside():
        executed = ROOT / "runs" / "notebooks" / f"{paper.name}-quick.ipynb"
        if executed.exists() and wanted(ROOT / paper.notebook):
            notebook = json.loads(executed.read_text(encoding="utf-8"))
            write_with_outputs(ROOT / paper.notebook, notebook)
    for path in filter(wanted, measured):
        notebook = nbformat.read(path, as_version=4)
        client = NotebookClient(notebook, resources={"metadata": {"path": str(ROOT)}})
        write_with_outputs(path, client.execute())


if __name__ == "__main__":
    main(sys.argv[1:])  # as nfpi.ipynb, amr/bench.ipynb; none: all

"""Keep in the notebooks what the last `make reproduce` showed, and in the first page what it shows now, for readers who only browse."""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import nbformat
from nbclient import NotebookClient

from genpapers.base.files import write_atomically
from genpapers.base.paper import available_papers, pages_beside

WIDGET, LARGEST = "application/vnd.jupyter.widget-view+json", 300_000


def kept(outputs: list[dict]) -> list[dict]:
    "Outputs without counts, bookkeeping and warnings (they name folders); of a widget its still picture, all that is left without a kernel."
    rest = [
        o
        for o in outputs
        if o.get("name") != "stderr"
        and (WIDGET not in o.get("data", {}) or "image/png" in o["data"])
    ]
    for output in rest:
        output.get("data", {}).pop(WIDGET, None)
    return [
        {
            k: ({} if k == "metadata" else None if k == "execution_count" else v)
            for k, v in o.items()
        }
        for o in rest
    ]


def with_outputs(notebook: dict, executed: dict) -> dict:
    "The notebook with the outputs of the executed cells that have its cells' ids and sources."
    found = {c["id"]: c for c in executed["cells"] if c["cell_type"] == "code"}
    for cell in notebook["cells"]:
        other = found.get(cell["id"])
        if (
            cell["cell_type"] == "code"
            and other
            and "".join(other["source"]) == "".join(cell["source"])
        ):
            cell["outputs"] = kept(other["outputs"])
    return notebook


def keep(path: Path, executed: dict) -> None:
    "Write a notebook with the outputs of its execution."
    notebook = with_outputs(json.loads(path.read_text(encoding="utf-8")), executed)
    write_atomically(
        path, json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    )
    size = path.stat().st_size
    print(
        f"{path.relative_to(ROOT)}: {size / 1000:.0f} kB{'' if size <= LARGEST else f', which is above {LARGEST // 1000} kB'}"
    )


def main() -> None:
    for paper in available_papers() + pages_beside():
        executed = ROOT / "runs" / "notebooks" / f"{paper.name}-quick.ipynb"
        if executed.exists():
            keep(ROOT / paper.notebook, json.loads(executed.read_text(encoding="utf-8")))
    start = ROOT / "nbs" / "start.ipynb"
    if start.exists():
        keep(
            start,
            NotebookClient(
                nbformat.read(start, as_version=4), resources={"metadata": {"path": str(ROOT)}}
            ).execute(),
        )


if __name__ == "__main__":
    main()

"""Pages that train nothing get the outputs of their cells, and README.md is made from nbs/index.ipynb: its text, with links that lead from the root."""

import json
import os
import posixpath
import re
import sys
from pathlib import Path

import nbformat
from execnb.shell import CaptureShell
from nbconvert import MarkdownExporter

from genpapers.base.files import write_atomically

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("nbs/index.ipynb", "nbs/method.ipynb", "nbs/commands.ipynb")


def executed(notebook: dict) -> dict:
    "The notebook with the outputs of its code cells, run in the project's root; the first that fails raises its error."
    os.chdir(ROOT)
    shell = CaptureShell(ROOT / "settings.ini")
    for cell in (c for c in notebook["cells"] if c["cell_type"] == "code"):
        cell["outputs"] = shell.run("".join(cell["source"]))
        if shell.exc:
            raise shell.exc
    return notebook


def from_root(link: re.Match) -> str:
    "A Markdown link's target, relative to nbs/, as seen from the root."
    target = link[2]
    outside = re.match(r"[a-z]+:|#|/", target)
    return (
        link[1] + (target if outside else posixpath.normpath(posixpath.join("nbs", target))) + ")"
    )


def readme(notebook: dict) -> str:
    "The text of README.md from the executed index."
    text, _ = MarkdownExporter(exclude_input=True).from_notebook_node(
        nbformat.reads(json.dumps(notebook), as_version=4)
    )
    text = re.sub(r"(\]\()([^)\s]+)\)", from_root, text)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def main(folder: Path) -> None:
    "Write README.md and the pages below a folder."
    for page in PAGES:
        notebook = executed(json.loads((ROOT / page).read_text(encoding="utf-8")))
        write_atomically(
            folder / page, json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
        )
        if page == PAGES[0]:
            write_atomically(folder / "README.md", readme(notebook))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)

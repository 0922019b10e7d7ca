"""Outputs for the pages that train nothing, and README.md: the text of nbs/index.ipynb."""

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
PAGES = ("nbs/index.ipynb", "nbs/method.ipynb", "nbs/commands.ipynb", "nbs/flics.ipynb")


def executed(notebook: dict) -> dict:
    "The notebook with the outputs of its cells, run in the project's root; errors are raised."
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
    if not re.match(r"[a-z]+:|#|/", target):
        target = posixpath.normpath(posixpath.join("nbs", target))
    return f"{link[1]}{target})"


def readme(notebook: dict) -> str:
    "The text of README.md from the executed index."
    node = nbformat.reads(json.dumps(notebook), as_version=4)
    text, _ = MarkdownExporter(exclude_input=True).from_notebook_node(node)
    text = re.sub(r"(\]\()([^)\s]+)\)", from_root, text)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def main(folder: Path) -> None:
    "Write README.md and the pages below a folder."
    for page in PAGES:
        notebook = executed(json.loads((ROOT / page).read_text(encoding="utf-8")))
        text = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
        write_atomically(folder / page, text)
        if page == PAGES[0]:
            write_atomically(folder / "README.md", readme(notebook))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)

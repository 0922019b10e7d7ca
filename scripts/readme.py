"""Make README.md from nbs/index.ipynb: the cells' text, with links that lead from the project's root."""

import posixpath
import re
import sys
from pathlib import Path

from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parent.parent


def from_root(link: re.Match) -> str:
    "A Markdown link's target, relative to nbs/, as seen from the root."
    target = link[2]
    outside = re.match(r"[a-z]+:|#|/", target)
    return link[1] + (target if outside else posixpath.normpath(posixpath.join("nbs", target))) + ")"


def readme(notebook: Path) -> str:
    "The text of README.md."
    text, _ = MarkdownExporter().from_filename(str(notebook))
    text = re.sub(r"(\]\()([^)\s]+)\)", from_root, text)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


if __name__ == "__main__":
    destination = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "README.md"
    destination.write_text(readme(ROOT / "nbs" / "index.ipynb"), encoding="utf-8")

"""Where things are, for the tests."""

import importlib.util
import json
import os
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

from genpapers.base.paper import available_papers

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
NOTEBOOKS = sorted(
    p
    for p in (ROOT / "nbs").rglob("*.ipynb")
    if not any(part[0] in "._" for part in p.relative_to(ROOT).parts)
)


def relative(path: Path) -> str:
    return path.relative_to(ROOT / "nbs").as_posix()


def cells(notebook: Path) -> list[dict]:
    return json.loads(notebook.read_text(encoding="utf-8"))["cells"]


def source(cell: dict) -> str:
    return "".join(cell["source"])


def is_library(notebook: Path) -> bool:
    return any(
        c["cell_type"] == "code" and source(c).lstrip().startswith("#| default_exp")
        for c in cells(notebook)
    )


LIBRARY = [p for p in NOTEBOOKS if is_library(p)]
PAPER_NOTEBOOKS = [ROOT / paper.notebook for paper in available_papers()]


@cache
def script(name: str) -> ModuleType:
    "A program of scripts/ as a module."
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def environment(measured: bool = True, **more: str) -> dict[str, str]:
    """The environment of a process that a test starts; not measured: without the tracing that
    coverage adds."""
    env = {k: v for k, v in os.environ.items() if measured or not k.startswith("COVERAGE_")}
    path = os.pathsep.join([str(BIN), env.get("PATH", "")])
    return env | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", "PATH": path} | more

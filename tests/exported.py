"""Run a library notebook against the module that it exports: its export cells are left out, the module's names stand in their place."""

import importlib
import os
import sys
from pathlib import Path

from execnb.shell import CaptureShell
from nbdev.config import get_config
from nbdev.process import NBProcessor

EXPORTS = {"export", "exporti", "exports", "default_exp"}


def module_name(nb, package: str) -> str:
    "What the notebook's `default_exp` says."
    return next(
        f"{package}.{c.directives_['default_exp'][0]}"
        for c in nb.cells
        if "default_exp" in (getattr(c, "directives_", None) or {})
    )


def left_out(cell, flags: set[str]) -> bool:
    "Whether a cell is not run: text, exported code, and what nbdev_test skips."
    if cell.cell_type != "code" or "nbdev_export(" in cell.source:
        return True
    directives = getattr(cell, "directives_", None) or {}
    return (
        bool((EXPORTS | flags) & directives.keys())
        or directives.get("eval:", [""])[0].lower() == "false"
    )


def run(notebook: Path) -> int:
    "Run the cells; how many were run. The first that fails raises its error."
    os.environ["IN_TEST"] = "1"
    config = get_config(path=notebook.parent)
    sys.path.insert(0, str(config.config_path))
    nb = NBProcessor(notebook, process=True).nb
    module = importlib.import_module(module_name(nb, config.lib_name))
    os.chdir(notebook.parent)
    shell, count, flags = CaptureShell(notebook), 0, set(config.tst_flags.split())
    shell.user_ns.update(
        {k: v for k, v in vars(module).items() if not (k.startswith("__") and k.endswith("__"))}
    )
    for cell in nb.cells:
        if not left_out(cell, flags):
            shell.cell(cell)
            count += 1
        if shell.exc:
            print(shell.prettytb(fname=notebook), file=sys.stderr)
            raise SystemExit(1)
    return count


if __name__ == "__main__":
    print(run(Path(sys.argv[1]).resolve()), "cells")

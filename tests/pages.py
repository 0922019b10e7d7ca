"""Run a page once, so that it proves two things: its cells run in their order, and what they try
is the module that they export.

An exported cell is compared with the module's file and executed from there, in names and lines of
the module; then its names are the notebook's as well. So a cell that uses what is exported
further down fails, and a module that needs what only the notebook has fails, too."""

import importlib
import os
import re
import sys
import textwrap
import traceback
from pathlib import Path
from tempfile import TemporaryDirectory

from execnb.shell import CaptureShell
from nbdev.config import get_config
from nbdev.export import nb_export
from nbdev.process import NBProcessor

HEAD = re.compile(r"^# %% \S+\.ipynb #(\S+)\n", re.MULTILINE)


def sections(text: str) -> dict[str, tuple[int, str]]:
    "For each cell in a module's text: its first line's number, and what it says."
    heads = list(HEAD.finditer(text))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    return {
        head[1]: (text.count("\n", 0, head.end()) + 1, text[head.end() : end].strip("\n"))
        for head, end in zip(heads, ends)
    }


def exported(notebook: Path, name: str) -> str:
    "The text of the module that nbdev makes of a notebook."
    with TemporaryDirectory() as folder:
        nb_export(notebook, lib_path=Path(folder, name.partition(".")[0]))
        return Path(folder, *name.split(".")).with_suffix(".py").read_text(encoding="utf-8")


class Module:
    "A page's module, executed section by section."

    def __init__(self, notebook: Path, name: str, path: Path):
        self.path, self.sections = str(path), sections(path.read_text(encoding="utf-8"))
        here = {cell: text for cell, (_, text) in self.sections.items()}
        page = {cell: text for cell, (_, text) in sections(exported(notebook, name)).items()}
        differing = [cell for cell in page | here if page.get(cell) != here.get(cell)]
        if differing or list(page) != list(here):
            raise AssertionError(
                f"{path} is not what {notebook} exports: cells {', '.join(differing or here)}"
            )
        importlib.import_module(name)  # as a whole
        self.globals = {"__name__": name, "__package__": name.rpartition(".")[0]}
        self.globals["__file__"] = self.path

    def execute(self, cell: str) -> None:
        "Execute a cell's section."
        line, text = self.sections[cell]
        exec(compile("\n" * (line - 1) + text, self.path, "exec"), self.globals)

    def names(self) -> dict[str, object]:
        "What it has defined so far."
        return {k: v for k, v in self.globals.items() if not re.fullmatch("__.*__", k)}


class Page:
    "A notebook that is run."

    def __init__(self, notebook: Path):
        os.environ["IN_TEST"] = "1"  # nbdev_test says so, too
        os.chdir(notebook.parent)
        config = get_config(path=notebook.parent)
        sys.path.insert(0, str(config.config_path))
        self.cells = NBProcessor(notebook, process=True).nb.cells
        self.flags, self.module = set(config.tst_flags.split()), None
        targets = [c.directives_["default_exp"][0] for c in self.cells if exports(c)]
        if targets:
            path = Path(config.lib_path, *targets[0].split(".")).with_suffix(".py")
            self.module = Module(notebook, f"{config.lib_name}.{targets[0]}", path)
        self.shell = CaptureShell(notebook)

    def skipped(self, cell) -> bool:
        "Whether nbdev_test leaves a cell out."
        if cell.cell_type != "code" or "nbdev_export(" in cell.source:
            return True
        evaluated = cell.directives_.get("eval:", ["true"])[0].lower() != "false"
        return not evaluated or bool(self.flags & cell.directives_.keys())

    def run_cell(self, cell) -> None:
        "Run a cell, from the module if it is exported."
        if self.module and cell.id in self.module.sections:
            self.module.execute(cell.id)
        else:
            self.shell.cell(cell)
            if self.shell.exc:
                raise self.shell.exc
            self.check_names()
        if self.module:
            self.shell.user_ns.update(self.module.names())

    def check_names(self) -> None:
        """A cell that gives an exported name another meaning would change the module in the
        notebook alone."""
        names = self.module.names() if self.module else {}
        changed = [k for k, v in names.items() if self.shell.user_ns.get(k, self) is not v]
        assert not changed, f"{', '.join(changed)} are names of the module and mean something else"


def exports(cell) -> bool:
    "Whether a cell names the page's module."
    return cell.cell_type == "code" and "default_exp" in cell.directives_


def run(notebook: Path) -> None:
    "Run a page; the first cell that fails ends it, with the cell and the trace on stderr."
    page = Page(notebook)
    for cell in page.cells:
        if page.skipped(cell):
            continue
        try:
            page.run_cell(cell)
        except BaseException as error:
            trace = "".join(traceback.format_exception(error))
            text = textwrap.indent(cell.source, "    ")
            print(f"{notebook}, cell {cell.id}:\n\n{text}\n\n{trace}", file=sys.stderr)
            raise SystemExit(1) from None

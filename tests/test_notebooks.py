"""Every page runs once, in the order of its cells, against the module that it exports; what must
fail does.

The notebooks with parameters are run by papermill (test_papers), those in scripts/readme.py by
that (test_house)."""

import json
from pathlib import Path

import forked
import pages
import pytest
from nbdev.export import nb_export
from places import NOTEBOOKS, cells, relative, script


def run_elsewhere(notebook: Path) -> bool:
    tags = [tag for c in cells(notebook) for tag in c["metadata"].get("tags", [])]
    return "parameters" in tags or f"nbs/{relative(notebook)}" in script("readme").PAGES


RUN_HERE = [p for p in NOTEBOOKS if not run_elsewhere(p)]


@pytest.mark.parametrize("notebook", RUN_HERE, ids=relative)
def test_notebook(notebook):
    status, output = forked.run(pages.run, notebook, seconds=600)
    assert status == 0, output


TOY = {
    "target": "#| default_exp toy",
    "ring": "#| export\nfrom math import pi, sqrt",
    "area": '#| export\ndef area(r):\n    "Of a disc."\n    return pi * r * r',
    "inner": "#| exporti\ndef _root(x):\n    return sqrt(x)",
    "law": "assert area(2) == 4 * area(1) and _root(4) == 2",
    "never": "#| eval: false\n1 / 0",
    "slow": "#| slow\n1 / 0",
    "end": "#| hide\nimport nbdev; nbdev.nbdev_export()",
}
SETTINGS = """[DEFAULT]
repo = toys
lib_name = toys
user = toys
lib_path = toys
nbs_path = nbs
tst_flags = notest slow
"""


def toy(folder: Path, sources: dict[str, str]) -> Path:
    "A project with one page of these cells, exported."
    empty = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    code = [empty | {"id": name, "source": text} for name, text in sources.items()]
    page, package = folder / "nbs" / "toy.ipynb", folder / "toys"
    page.parent.mkdir()
    package.mkdir()
    page.write_text(json.dumps({"cells": code, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    (folder / "settings.ini").write_text(SETTINGS)
    (package / "__init__.py").touch()
    nb_export(page, lib_path=package)
    return page


def run_toy(page: Path) -> tuple[int, str]:
    return forked.run(pages.run, page, seconds=120, measured=False)


def test_a_page_that_is_right_passes(tmp_path):
    assert run_toy(toy(tmp_path, TOY)) == (0, "")


FAULTS = {
    "a law that does not hold": (
        TOY | {"law": "radius = 1\nassert area(radius) == 3"},
        ["cell law", "    assert area(radius) == 3", "AssertionError"],
    ),
    "an error inside the module": (
        TOY | {"law": "area('one')"},
        ["cell law", 'toys/toy.py", line 12, in area', "return pi * r * r", "TypeError"],
    ),
    "an exported cell that fails": (
        TOY | {"ring": "#| export\npi = 1 / 0"},
        ['toys/toy.py", line 7, in <module>', "ZeroDivisionError"],
    ),
    "a cell before what it uses": (
        {"target": TOY["target"], "law": TOY["law"]} | TOY,
        ["cell law", "NameError: name 'area' is not defined"],
    ),
    "a module that needs what only the page has": (
        TOY | {"ring": "from math import pi, sqrt"},
        ["cell law", 'toys/toy.py", line 9, in area', "NameError: name 'pi' is not defined"],
    ),
    "a page that gives an exported name another meaning": (
        TOY | {"law": "sqrt = area(1)"},
        ["cell law", "sqrt are names of the module and mean something else"],
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_page_with_a_fault_fails_and_says_where(fault, tmp_path):
    sources, said = FAULTS[fault]
    status, output = run_toy(toy(tmp_path, sources))
    assert status == 1 and [words for words in said if words not in output] == [], output


@pytest.mark.parametrize(
    "old, new",
    [
        ("pi * r * r", "pi * r**2"),
        ("# %% ../nbs/toy.ipynb #inner", "#"),
        ("sqrt(x)", "sqrt(x)\n\n# %% ../nbs/toy.ipynb #more\nmore = 1"),
    ],
    ids=["changed", "missing", "more"],
)
def test_a_module_that_is_not_its_page_fails(old, new, tmp_path):
    page = toy(tmp_path, TOY)
    module = tmp_path / "toys" / "toy.py"
    assert old in module.read_text()
    module.write_text(module.read_text().replace(old, new))
    status, output = run_toy(page)
    assert status == 1 and f"{module} is not what {page} exports" in output, output

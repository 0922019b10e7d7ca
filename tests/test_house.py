"""The house is in order: the package is what the notebooks export, imports run one way, nothing is
said twice."""

import ast
import json
import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from places import (
    BIN,
    LIBRARY,
    NOTEBOOKS,
    PAPER_NOTEBOOKS,
    ROOT,
    cells,
    environment,
    relative,
    source,
)

from genpapers.base.paper import BESIDE, PAPERS, available_papers
from genpapers.base.parameters import declared_parameters

PACKAGE = ROOT / "genpapers"
MODULES = {
    ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p
    for p in sorted(PACKAGE.rglob("*.py"))
    if p.name != "_modidx.py"
}
FLOORS = {
    "base": 0,
    "data": 1,
    "nets": 1,
    "metrics": 1,
    "train": 1,
    "pictures": 1,
    "companion": 2,
    "docs": 4,
}
WINGS = dict.fromkeys((*PAPERS, *BESIDE), 2) | {"comparison": 3}


def files(folder: Path) -> dict[str, str]:
    return {
        p.relative_to(folder).as_posix(): p.read_text(encoding="utf-8")
        for p in sorted(folder.rglob("*.py"))
    }


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    "The notebooks and settings without the modules."
    folder = tmp_path_factory.mktemp("house")
    for name in ("settings.ini", "setup.py"):
        shutil.copy(ROOT / name, folder)
    for notebook in NOTEBOOKS:
        destination = folder / notebook.relative_to(ROOT)
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(notebook, destination)
    for init in PACKAGE.rglob(
        "__init__.py"
    ):  # written by hand where there is more than the version in them; nbdev leaves them
        destination = folder / init.relative_to(ROOT)
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(init, destination)
    return folder


def tool(name: str, folder: Path, *arguments: str) -> None:
    command = [sys.executable, str(BIN / name), *arguments]
    home = folder.parent / "home"
    home.mkdir(exist_ok=True)
    env = environment(measured=False, HOME=str(home), PYTHONPATH="")
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_package_is_what_the_notebooks_export(copy):
    tool("nbdev_export", copy)
    exported, package = files(copy / "genpapers"), files(PACKAGE)
    assert sorted(exported) == sorted(package), (
        "a module without a notebook, or a notebook that was not exported"
    )
    differing = [name for name in package if package[name] != exported[name]]
    assert not differing, f"{', '.join(differing)} differ from what nbdev_export makes"


def parameter_cells(notebook: Path) -> list[str]:
    return [source(c) for c in cells(notebook) if "parameters" in c["metadata"].get("tags", [])]


def test_parameters_survive_cleaning(copy):
    tool("nbdev_clean", copy)
    for notebook in PAPER_NOTEBOOKS:
        here, cleaned = (
            parameter_cells(notebook),
            parameter_cells(copy / notebook.relative_to(ROOT)),
        )
        assert len(here) == 1, f"{relative(notebook)} has {len(here)} cells tagged parameters"
        assert cleaned == here, f"nbdev_clean changes the parameters cell of {relative(notebook)}"


def test_presets_and_limits_are_declared_and_explained():
    for paper in available_papers():
        declared = declared_parameters(paper, ROOT)
        named = set(paper.limits).union(*paper.scales.values())
        assert named <= {p.name for p in declared}, (
            f"{paper.notebook} does not declare {named - {p.name for p in declared}}"
        )
        assert all(p.help for p in declared), f"{paper.notebook} explains not every parameter"


def named_lambda(node: ast.AST) -> bool:
    return isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Lambda)


@pytest.mark.parametrize("notebook", PAPER_NOTEBOOKS, ids=relative)
def test_paper_notebook_defines_nothing(notebook):
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for cell in cells(notebook):
        if cell["cell_type"] == "code":
            lines = (
                "" if line.startswith(("%", "!")) else line for line in source(cell).splitlines()
            )
            found = [
                ast.unparse(n)
                for n in ast.walk(ast.parse("\n".join(lines)))
                if isinstance(n, definitions) or named_lambda(n)
            ]
            assert not found, f"{relative(notebook)} defines {found[0]}"


def imports(module: str) -> set[str]:
    "The package's modules that a module names in its imports, those inside functions included."
    path, named = MODULES[module], set()
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            named |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            base = ".".join(filter(None, [base, node.module or ""]))
            named |= {base} | {f"{base}.{a.name}" for a in node.names}
    return (named & set(MODULES)) - {module}


def room(module: str) -> str:
    return module.split(".")[1]


def floor(module: str) -> int:
    return (FLOORS | WINGS)[room(module)]


def may_import(module: str, other: str) -> bool:
    "Within a room, or from a lower floor; wings and the companion do not see each other."
    return room(module) == room(other) or floor(other) < floor(module) or floor(module) == 1


INSIDE = [m for m in MODULES if m.count(".") == 2]


@pytest.mark.parametrize("module", INSIDE)
def test_imports_run_one_way(module):
    for other in imports(module):
        if other.count(".") == 2:
            assert may_import(module, other) and floor(other) <= floor(module), (
                f"{module} imports {other}, which it must not know"
            )


def circle(graph: dict[str, set[str]]) -> list[str]:
    "The members of a circle, in order; empty where there is none."
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_no_circle_of_modules_and_none_of_rooms():
    modules = {m: {o for o in imports(m) if o.count(".") == 2} for m in INSIDE}
    rooms: dict[str, set[str]] = {}
    for module, others in modules.items():
        rooms.setdefault(room(module), set()).update(
            room(o) for o in others if room(o) != room(module)
        )
    assert not circle(modules) and not circle(rooms)


def test_a_circle_would_be_seen():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) and not circle(
        {"a": {"b", "c"}, "b": {"c"}}
    )


def test_every_room_is_known():
    assert {room(m) for m in MODULES if m.count(".") >= 1} == set(FLOORS | WINGS)


LIGHT = [m for m in MODULES if m.endswith(".page")] + ["genpapers.companion.cli"]


def test_pages_and_command_line_are_light():
    program = "import sys, importlib\n"
    program += f"[importlib.import_module(m) for m in {LIGHT}]; print(' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert not {"torch", "torchvision", "lightning"} & set(done.stdout.split())


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    "What scripts/readme.py makes of the pages that train nothing."
    folder = tmp_path_factory.mktemp("pages")
    command = [sys.executable, ROOT / "scripts" / "readme.py", folder]
    subprocess.run(command, cwd=ROOT, env=environment(measured=False), check=True, timeout=300)
    return folder


def test_readme_is_the_landing_page(pages):
    text = (pages / "README.md").read_text(encoding="utf-8")
    assert text == (ROOT / "README.md").read_text(encoding="utf-8"), "run: make readme"
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        assert re.match(r"[a-z]+:|#", target) or (ROOT / target).exists(), (
            f"README.md leads to {target}, which is not there"
        )


def test_pages_show_what_they_compute(pages):
    for page in pages.rglob("*.ipynb"):
        name = page.relative_to(pages)
        assert page.read_text(encoding="utf-8") == (ROOT / name).read_text(encoding="utf-8"), (
            f"{name} has old outputs; run: make readme"
        )


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_requirements_are_pinned():
    config = ConfigParser(delimiters=["="], interpolation=None)
    config.read(ROOT / "settings.ini", encoding="utf-8")
    wanted = " ".join(config["DEFAULT"][k] for k in ("requirements", "dev_requirements")).split()
    names = {normal(re.split(r"[<>=!~\[;]", r)[0]) for r in wanted}
    lines = [
        x
        for x in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if x and not x.startswith("#")
    ]
    pins = {normal(x.split("==")[0]) for x in lines if "==" in x}
    assert not names - pins, f"constraints.txt has no pin for {', '.join(sorted(names - pins))}"


@pytest.mark.parametrize("notebook", LIBRARY, ids=relative)
def test_lines_of_code_end_before_100_columns(notebook):
    exported = (c for c in cells(notebook) if source(c).startswith(("#| export", "#| exporti")))
    wide = [(c["id"], x) for c in exported for x in source(c).splitlines() if len(x) > 100]
    assert not wide, f"{relative(notebook)}: {wide[0]}"


def test_cell_names_are_unique():
    for notebook in NOTEBOOKS:
        ids = [c.get("id") for c in json.loads(notebook.read_text(encoding="utf-8"))["cells"]]
        assert None not in ids and len(ids) == len(set(ids)), (
            f"{relative(notebook)} has cells without an id, or two with the same"
        )


def has_parameters(notebook: Path) -> bool:
    return any("parameters" in c["metadata"].get("tags", ()) for c in cells(notebook))


def test_notebooks_are_small():
    "Papers show their figures whole, all other notebooks are text; every reproduction adds them."
    sizes = {p: p.stat().st_size for p in NOTEBOOKS}
    allowed = {p: 5_000_000 if has_parameters(p) else 300_000 for p in NOTEBOOKS}
    large = [relative(p) for p in NOTEBOOKS if sizes[p] > allowed[p]]
    assert not large, f"{', '.join(large)} are too large with their outputs"
    together = 3_000_000 * len(PAPERS)  # what a clone carries, and each new version again
    assert sum(sizes.values()) <= together, "the notebooks are too large together"

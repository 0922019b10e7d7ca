"""The package as it is installed, in an empty folder: no checkout is needed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT, cells, environment, source

FILES = ("setup.py", "settings.ini", "MANIFEST.in", "README.md", "LICENSE", "CITATION.cff")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    "A folder with the wheel's content and nothing else; what the package needs is there already."
    folder = tmp_path_factory.mktemp("wheel")
    source, site = folder / "source", folder / "site"
    for name in ("genpapers", "nbs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    command = [*pip, "--no-build-isolation", "--use-pep517", "--target", site, source]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return site


def call(folder: Path, site: Path, *command: str) -> str:
    "What a program prints in a folder where only the installed package is known."
    env = environment(measured=False, PYTHONPATH=str(site), HOME=str(folder))
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


FIVE_LINES = """
import sys, time
start = time.perf_counter()
import genpapers
light = time.perf_counter() - start < 1 and not {"torch", "numpy", "pandas"} & set(sys.modules)
runs = genpapers.train("mnist_style", scale="smoke", models=["adversarial"], niterations=2)
found = genpapers.load("mnist_style/adversarial")
images = found.model.sample(10, labels=range(10))
from genpapers.base.paper import find_paper
from genpapers.companion.job import make_job
print(light, genpapers.__file__, found.key == runs["adversarial-s0"].key, tuple(images.shape))
print(make_job(find_paper("mnist_style"), {}).source)
"""


def test_five_lines_work_in_an_empty_folder(installed, tmp_path):
    first, source = call(tmp_path, installed, "-c", FIVE_LINES).strip().splitlines()
    assert first == f"True {installed / 'genpapers' / '__init__.py'} True (10, 1, 28, 28)"
    assert Path(source) == installed / "genpapers" / "notebooks" / "mnist_style.ipynb"
    assert [f.name for f in tmp_path.iterdir() if f.name[0] != "."] == ["runs"]


def cells_in_words(notebook: Path) -> str:
    "The code of a page, slow cells too, as a program that shows nothing."
    code = [c for c in cells(notebook) if c["cell_type"] == "code"]
    sources = [source(c) for c in code if "nbdev_export(" not in source(c)]
    return "\n\n".join(sources)


def test_every_cell_of_the_page_works_in_an_empty_folder(installed, tmp_path):
    page = cells_in_words(ROOT / "nbs" / "python.ipynb")
    assert page.count("genpapers.") > 10 and "#| slow" in page
    said = call(tmp_path, installed, "-c", f"{page}\nprint(genpapers.__file__, len(drawn))")
    where, number = said.strip().splitlines()[-1].split()
    assert Path(where).is_relative_to(installed) and int(number) > 5


def test_notebooks_are_copied_and_then_count(installed, tmp_path):
    program = "from genpapers.companion.cli import main; main()"
    call(tmp_path, installed, "-c", program, "notebooks", ".")
    changed = tmp_path / "mnist_style.ipynb"
    changed.write_text(changed.read_text().replace("feat_size: int = None", "feat_size: int = 7"))
    print_it = "import genpapers; print(genpapers.parameters('mnist_style')['feat_size'].default)"
    assert call(tmp_path, installed, "-c", print_it).strip() == "7"


def test_weights_come_from_the_command_line(tmp_path):
    train = "import genpapers; genpapers.train('mnist_style', 'smoke', niterations=1)"
    program = "from genpapers.companion.cli import main; main()"
    call(tmp_path, ROOT, "-c", train)
    said = call(
        tmp_path, ROOT, "-c", program, "export", "mnist_style/simple", "--weights", "decoder"
    )
    names = ["decoder", "discriminator", "encoder"]
    files = [f"decoder/{name}.safetensors" for name in names]
    assert said.split() == [*files[:3], "decoder/model.json"]

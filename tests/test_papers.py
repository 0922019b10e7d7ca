"""Every paper's notebook as its users run it, papermill from the root: one run at scale smoke,
looked at from all sides."""

import json
import shutil
from pathlib import Path

import forked
import pytest
import smoke
from PIL import Image
from places import ROOT

from genpapers.base.paper import available_papers, find_paper
from genpapers.comparison.methods import METHODS

PAPERS = [p for p in available_papers() if (ROOT / p.notebook).is_file()]
every_paper = pytest.mark.parametrize("paper", PAPERS, ids=lambda p: p.name)


@every_paper
def test_paper_runs(paper, papermill_run):
    run = papermill_run(paper)
    assert run.status == 0, run.errors[-6000:]
    assert run.results["scale"] == "smoke" and run.results["runs"]
    assert not (ROOT / "nbs" / "runs").exists() and not (ROOT / "nbs" / "figures").exists()


@every_paper
def test_paper_says_something_of_every_claim(paper, papermill_run):
    claims = papermill_run(paper).results["claims"]
    assert sorted(c["name"] for c in claims) == sorted(c.name for c in paper.claims)
    assert all(c["verdict"].startswith("needs ") for c in claims)  # smoke decides nothing


@every_paper
def test_figures_show_something(paper, papermill_run):
    run = papermill_run(paper)
    pictures = [Path(run.figures, f["file"]) for f in run.results["figures"].values()]
    assert any(p.suffix == ".png" for p in pictures)
    for picture in pictures:
        with Image.open(picture) as image:
            assert min(image.size) > 20 and any(
                low < high for low, high in image.convert("RGB").getextrema()
            ), f"{picture.name} is empty"


def run_beside(paper, runs_dir: Path, figures: Path) -> dict:
    "Run a notebook about all papers, with figures in a folder; its results."
    values = {"scale": "smoke", "runs_dir": str(runs_dir), "figures_dir": str(figures)}
    notebook = str(ROOT / paper.notebook)
    status, output = forked.run(smoke.run_cells, notebook, values, seconds=600)
    assert status == 0, output
    return json.loads((figures / paper.name / "results.json").read_text(encoding="utf-8"))


def test_methods_are_compared_on_the_papers_own_trainings(shared, tmp_path):
    results = run_beside(find_paper("comparison"), shared / "runs", tmp_path)
    assert set(results["figures"]) == set(find_paper("comparison").figures)
    assert set(results["numbers"]["measures"]) == {m.paper for m in METHODS}


def test_the_ledger_reads_what_was_found(tmp_path):
    figures = shutil.copytree(ROOT / "figures", tmp_path / "figures")
    assert run_beside(find_paper("claims"), tmp_path / "runs", figures)["numbers"]["tally"]


# One by papermill itself, which takes its time; all in processes that have PyTorch loaded.
WRONG = [(p, name, value) for p in PAPERS for name, value in (("epochz", 3), ("scale", "huge"))]
WRONG += [(p, "feat_size", -1) for p in PAPERS if p.name == "mnist_style"]


def check_sentence(errors: str, name: str, folder: Path) -> None:
    sentence = next(line for line in errors.splitlines()[::-1] if "ParameterError" in line)
    assert name in sentence, sentence
    assert "allowed" in sentence or "the parameters are" in sentence, sentence
    assert not (folder / "runs").exists() and not (folder / "figures").exists()


@pytest.mark.parametrize(("paper", "name", "value"), WRONG, ids=lambda v: getattr(v, "name", v))
def test_wrong_parameter_is_named_before_any_work(paper, name, value, tmp_path):
    places = {"runs_dir": str(tmp_path / "runs"), "figures_dir": str(tmp_path / "figures")}
    notebook, values = str(ROOT / paper.notebook), places | {name: value}
    status, errors = forked.run(smoke.run_cells, notebook, values, seconds=600, measured=False)
    assert status != 0
    check_sentence(errors, name, tmp_path)


def test_wrong_parameter_stops_papermill(tmp_path):
    run = smoke.papermill(PAPERS[0].notebook, tmp_path, epochz=3)
    assert run.status != 0
    check_sentence(run.errors, "epochz", tmp_path)

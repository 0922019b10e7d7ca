"""Every paper's notebook as its users run it: papermill from the root."""

import json
import subprocess
from pathlib import Path

import pytest
from PIL import Image
from places import BIN, ROOT, environment

from genpapers.base.paper import Paper, available_papers

PAPERS = [p for p in available_papers() if (ROOT / p.notebook).is_file()]
WRONG = [(p, name, value) for p in PAPERS for name, value in (("epochz", "3"), ("scale", "huge"))]
WRONG += [(p, "feat_size", "-1") for p in PAPERS if p.name == "mnist_style"]


def papermill(paper: Paper, folder: Path, *parameters: str) -> subprocess.CompletedProcess:
    "Run the notebook with runs and figures in `folder`."
    places = ["-p", "runs_dir", str(folder / "runs"), "-p", "figures_dir", str(folder / "figures")]
    command = [
        str(BIN / "papermill"),
        paper.notebook,
        str(folder / "out.ipynb"),
        "--no-progress-bar",
        *places,
        *parameters,
    ]
    env = environment(GENPAPERS_DATA="", IPYTHONDIR=str(folder / "ipython"))
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=900)


def results(paper: Paper, folder: Path) -> dict:
    return json.loads(
        (folder / "figures" / paper.name / "results.json").read_text(encoding="utf-8")
    )


@pytest.mark.parametrize("paper", PAPERS, ids=lambda p: p.name)
def test_paper_runs_and_its_runs_are_reused(paper, tmp_path):
    done = papermill(paper, tmp_path, "-p", "scale", "smoke")
    assert done.returncode == 0, done.stderr[-6000:]
    first = results(paper, tmp_path)
    assert first["scale"] == "smoke"
    assert sorted(c["name"] for c in first["claims"]) == sorted(c.name for c in paper.claims)
    assert {c["verdict"] for c in first["claims"]} <= {
        "holds",
        "fails",
        "not decidable at this scale",
    }
    folder = tmp_path / "figures" / paper.name
    pictures = [folder / f["file"] for f in first["figures"].values()]
    assert any(p.suffix == ".png" for p in pictures)
    for picture in pictures:
        with Image.open(picture) as image:
            assert min(image.size) > 20 and any(
                low < high for low, high in image.convert("RGB").getextrema()
            ), f"{picture.name} is empty"
    assert not (ROOT / "nbs" / "runs").exists() and not (ROOT / "nbs" / "figures").exists()

    again = papermill(paper, tmp_path, "-p", "scale", "smoke")
    assert again.returncode == 0, again.stderr[-6000:]
    second = results(paper, tmp_path)
    assert second["runs"] and all(r["reused"] for r in second["runs"].values())
    assert {n: r["key"] for n, r in second["runs"].items()} == {
        n: r["key"] for n, r in first["runs"].items()
    }


@pytest.mark.parametrize(("paper", "name", "value"), WRONG, ids=lambda v: getattr(v, "name", v))
def test_wrong_parameter_is_named_before_any_work(paper, name, value, tmp_path):
    done = papermill(paper, tmp_path, "-p", name, value)
    assert done.returncode != 0
    sentence = next(line for line in done.stderr.splitlines()[::-1] if "ParameterError" in line)
    assert name in sentence and ("allowed" in sentence or "the parameters are" in sentence), (
        sentence
    )
    assert not (tmp_path / "runs").exists() and not (tmp_path / "figures").exists()

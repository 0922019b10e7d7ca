"""The page of published commands cannot rot: every call is checked, every kind of call is run."""

import shlex

import forked
import pytest
import smoke
from papermill.cli import _resolve_type
from places import ROOT

from genpapers.amr.experiments import EXPERIMENTS
from genpapers.base.files import read_json
from genpapers.base.paper import SCALES, find_paper
from genpapers.base.parameters import declared_parameters
from genpapers.companion.cli import job_of
from genpapers.companion.commands import COMMANDS, FLAGS, Command, papermill_call
from genpapers.companion.job import make_job
from genpapers.nfpi.configs import find_config

CALLS = [c for c in COMMANDS if c.parameters is not None]
TRIED = [c for c in CALLS if c.tried]
# in place of published values that need a download, a GPU or much time
SMALL = {"dataset": "embedded", "configs": "mnist5k/mean", "items_per_class": 10}
SMALL |= {"device": "cpu", "fid": 0}
# what a notebook would do besides, unless it is asked for
LEFT_OUT = {"nfpi": {"strategies": "real"}, "amr": {"cls": 0, "sprites": 0}}


def name(value) -> str | None:
    return f"{value.paper}: {value.published}" if isinstance(value, Command) else None


def at_smoke(command: Command) -> dict:
    "The parameters for a try: published sizes give way, what makes the command its own stays."
    published = find_paper(command.paper).scales["paper"]
    own = {k: v for k, v in command.parameters.items() if k not in published or published[k] != v}
    small = {k: SMALL[k] for k in own if k in SMALL}
    return LEFT_OUT.get(command.paper, {}) | own | small | {"scale": SCALES[0]}


@pytest.mark.parametrize("command", CALLS, ids=name)
def test_call_is_what_the_notebook_takes(command):
    page = find_paper(command.paper)
    job = make_job(page, command.parameters, ROOT)
    assert job.parameters["scale"] == "paper", "a published command means the published scale"
    words = shlex.split(papermill_call(command))
    pairs = list(zip(words[4::3], words[5::3], strict=True))
    assert job_of(page, pairs).given == command.parameters
    typed = {k: _resolve_type(v) for k, v in pairs}
    assert make_job(page, typed, ROOT).parameters == job.parameters, (
        "papermill and genpapers run read the call differently"
    )
    assert make_job(page, at_smoke(command), ROOT).parameters["scale"] == "smoke"
    assert job.parameters.get("experiment") in (None, *EXPERIMENTS)
    configs = (job.parameters.get("configs") or "").split(",")
    assert all(find_config(c.strip()) for c in configs if c)


@pytest.mark.parametrize("paper", FLAGS)
def test_flags_became_parameters(paper):
    declared = {p.name for p in declared_parameters(find_paper(paper), ROOT)}
    assert all(parameter in declared if parameter else note for _, parameter, note in FLAGS[paper])


def test_every_kind_is_run():
    kinds = {"mnist_style": "models", "symvae": "methods", "polymnist": "stages"}
    for paper, parameter in kinds.items():
        values = {str(c.parameters.get(parameter)) for c in CALLS if c.paper == paper} - {"None"}
        assert values == {str(c.parameters.get(parameter)) for c in TRIED if c.paper == paper} - {
            "None"
        }, paper
    assert {c.paper for c in COMMANDS} == {c.paper for c in TRIED}


@pytest.mark.parametrize("command", TRIED, ids=name)
def test_call_runs_at_smoke_and_reuses_finished_runs(command, papermill_run, tmp_path):
    """A training that the paper's run at scale smoke has made is found again, the others are made
    once."""
    page, values = find_paper(command.paper), at_smoke(command)
    made = papermill_run(page)
    folders = {"runs_dir": made.runs_dir, "figures_dir": str(tmp_path)}
    notebook = str(ROOT / page.notebook)
    arguments = (smoke.run_cells, notebook, values | folders)
    status, output = forked.run(*arguments, seconds=600, measured=False)
    assert status == 0, output
    results = read_json(tmp_path / page.name / "results.json")
    assert {k: results["parameters"][k] for k in values} == values
    assert results["runs"] and set(command.shows) <= set(results["figures"])
    keys = {run["key"] for run in made.results["runs"].values()}
    again = [run["reused"] for run in results["runs"].values() if run["key"] in keys]
    assert again and all(again), "a finished run was made again"

"""The command line and headless execution: exit statuses, killed kernels, nothing done twice."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from genpapers.base.files import read_json, write_json
from genpapers.base.paper import Paper, Range, available_papers, find_paper
from genpapers.companion import cli, reproduce
from genpapers.companion.cli import main
from genpapers.companion.job import make_job
from genpapers.companion.outcomes import Outcome
from genpapers.companion.reproduce import run_job, run_jobs

ROOT = Path(__file__).parents[1]
DECLARED = """scale: str = "quick"  # the preset
epochs: int = None  # passes
force: bool = False  # train again
"""
GOOD = """import json, os, pathlib
folder = pathlib.Path("figures" if scale == "quick" else f"figures/{scale}") / "toy"
folder.mkdir(parents=True, exist_ok=True)
(folder / "dot.png").write_bytes(b"dot")
results = {"paper": "toy", "scale": scale, "epochs": epochs}
results["execution"] = os.environ["GENPAPERS_EXECUTION"]
results["figures"] = {"dot": {"file": "dot.png", "title": "a dot"}}
claim = {"name": "C1", "statement": "Dots are round.", "published": "yes"}
results["claims"] = [claim | {"ours": 0.98765, "verdict": "holds"}]
_ = (folder / "results.json").write_text(json.dumps(results))
with open("executions.txt", "a") as f:
    f.write("x")
"""
PRESETS = {"smoke": {"epochs": 1}, "quick": {"epochs": 5}, "paper": {"epochs": 99}}
TOY = Paper("toy", "A toy", "", PRESETS, {"epochs": Range(1, 100)}, (), {}, {})


def write_notebook(root: Path, *cells: str) -> None:
    "The toy paper's notebook: its parameters, then these cells."
    empty = {"cell_type": "code", "outputs": [], "execution_count": None}
    sources = [DECLARED, *cells]
    tags = [["parameters"]] + [[] for _ in cells]
    code = [
        empty | {"id": f"cell{i}", "source": s, "metadata": {"tags": t}}
        for i, (s, t) in enumerate(zip(sources, tags))
    ]
    kernel = {"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}}
    (root / "nbs").mkdir(exist_ok=True)
    (root / "nbs/toy.ipynb").write_text(
        json.dumps({"cells": code, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5})
    )


@pytest.fixture
def project(tmp_path, monkeypatch):
    "A project whose one paper is the toy, with the command that is called in it."
    (tmp_path / "settings.ini").write_text("[DEFAULT]\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "PAPERS", ("toy",))
    monkeypatch.setattr(cli, "find_paper", lambda name: TOY if name == "toy" else find_paper(name))
    monkeypatch.setattr(cli, "pages_beside", lambda: [])
    write_notebook(tmp_path, GOOD)
    return tmp_path


def call(*words: str):
    return CliRunner().invoke(main, words)


def executions(root: Path) -> int:
    path = root / "executions.txt"
    return len(path.read_text()) if path.exists() else 0


HEAVY = ("torch", "papermill", "matplotlib", "pandas", "dask")


@pytest.mark.parametrize("word", ["--help", "list"])
def test_help_and_list_load_nothing_heavy(word):
    code = f"""
import sys
from genpapers.companion.cli import main
main([{word!r}], standalone_mode=False)
print([name for name in {HEAVY} if name in sys.modules])
"""
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"
    assert word != "list" or all(p.name in run.stdout for p in available_papers())


@pytest.mark.parametrize(
    "words, said",
    [
        (["run", "cycle_gan"], "there is no paper named 'cycle_gan'"),
        (["params", "cycle_gan"], "there is no paper named 'cycle_gan'"),
        (
            ["run", "toy", "-p", "epochz", "3"],
            "epochz is not a parameter of toy; the parameters are scale, epochs, force; "
            "did you mean epochs?",
        ),
        (["run", "toy", "-p", "epochs", "-1"], "epochs is -1; allowed: int, 1 to 100"),
        (["run", "toy", "-p", "epochs", "many"], "epochs is 'many'; allowed: int, 1 to 100"),
        (["run", "toy", "--scale", "huge"], "scale is 'huge'; allowed: str, smoke, quick, paper"),
        (["reproduce", "--scale", "huge"], "scale is 'huge'; allowed: str, smoke, quick, paper"),
        (["reproduce", "toy", "cycle_gan"], "there is no paper named 'cycle_gan'"),
        (
            ["reproduce", "--scheduler", "tcp://127.0.0.1:1"],
            "--scheduler is for Dask; add --engine dask",
        ),
        (["data", "verify", "cifar"], "there is no data set named 'cifar'"),
        (["bench", "cycle_gan"], "there is no paper named 'cycle_gan'"),
        (["bench", "symvae", "--device", "cuda:99"], "device is 'cuda:99', but this machine has"),
    ],
)
def test_what_is_wrong_is_one_sentence_before_any_kernel_starts(project, monkeypatch, words, said):
    monkeypatch.setattr(reproduce, "_execute", lambda *_: pytest.fail("a kernel was started"))
    result = call(*words)
    assert result.exit_code == 1 and result.stdout == ""
    assert said in result.stderr and len(result.stderr.strip().splitlines()) == 1
    assert not (project / "runs").exists()


def test_run_gives_typed_parameters_and_shows_what_came_out(project):
    result = call("run", "toy", "--scale", "smoke", "-p", "epochs", "1e1")
    assert result.exit_code == 0, result.output
    assert read_json(project / "figures/smoke/toy/results.json")["epochs"] == 10
    assert all(
        w in result.stdout for w in ("dot.png", "Dots are round.", "0.9877", "holds", "done")
    )
    assert sorted(p.name for p in (project / "runs/notebooks").glob("toy*")) == [
        "toy-smoke.ipynb",
        "toy-smoke.json",
        "toy-smoke.lock",
    ]


def execute_here(job, signals) -> None:
    "The cells of the toy's notebook in this process: what is due does not ask for a kernel."
    notebook = read_json(job.source)
    values = {"__name__": "toy"}
    for cell in notebook["cells"]:
        exec(cell["source"], values)
        values |= job.given if "parameters" in cell["metadata"]["tags"] else {}
    write_json(job.beside(".partial.ipynb"), notebook)


def test_nothing_is_done_twice_and_everything_that_counts_counts(project, monkeypatch):
    monkeypatch.setattr(reproduce, "_execute", execute_here)
    monkeypatch.setenv("GENPAPERS_EXECUTION", "here")

    def state(**given):
        return run_job(make_job(TOY, {"scale": "smoke"} | given)).state

    assert [state(), state(), executions(project)] == ["done", "unchanged", 1]
    assert "unchanged" in call("reproduce", "--scale", "smoke").stdout and executions(project) == 1
    assert state(epochs=2) == "done" and state(epochs=2) == "unchanged"
    assert state(epochs=2, force=True) == "done"
    (project / "figures/smoke/toy/dot.png").unlink()
    assert state(epochs=2) == "done" and state(epochs=2) == "unchanged"
    write_notebook(project, GOOD, "1 + 1")
    assert state(epochs=2) == "done"
    monkeypatch.setattr("genpapers.companion.job.package_digest", lambda: "other code")
    assert state(epochs=2) == "done" and state(epochs=2) == "unchanged"
    (project / "data/MNIST/raw").mkdir(parents=True)
    (project / "data/MNIST/raw/new").write_bytes(b"0")
    assert state(epochs=2) == "done"
    (project / "runs/notebooks/toy-smoke.json").write_text("{")
    assert state(epochs=2) == "done" and state(epochs=2) == "unchanged"


@pytest.mark.parametrize(
    "end, why",
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "the kernel died"),
        ("raise ValueError('no dots')", "ValueError: no dots"),
    ],
)
def test_a_failure_names_the_cell_and_leaves_the_last_good_notebook(project, end, why):
    assert call("run", "toy", "--scale", "smoke").exit_code == 0
    good = (project / "runs/notebooks/toy-smoke.ipynb").read_bytes()
    write_notebook(
        project,
        "seen = 'before'\nprint(seen)",
        f"import os, signal  # the end\n{end}",
        "print('after')",
    )
    result = call("run", "toy", "--scale", "smoke")
    assert result.exit_code == 1
    assert (
        f"toy failed in cell 4 (`import os, signal  # the end`): {why}" in result.stderr
        and "Traceback" not in result.stderr
    )
    assert (project / "runs/notebooks/toy-smoke.ipynb").read_bytes() == good
    partial = (project / "runs/notebooks/toy-smoke.partial.ipynb").read_text()
    assert "before\\n" in partial and "after\\n" not in partial
    assert "Traceback" in (project / "runs/notebooks/toy-smoke.error.txt").read_text()
    assert "toy-smoke failed" in call("status").stdout
    write_notebook(project, GOOD)
    assert call("run", "toy", "--scale", "smoke").exit_code == 0
    assert not list((project / "runs/notebooks").glob("*.partial.ipynb")) + list(
        (project / "runs/notebooks").glob("*.error.txt")
    )


def test_a_notebook_without_results_has_failed(project):
    write_notebook(project, "1 + 1")
    result = call("run", "toy")
    assert result.exit_code == 1 and "the notebook has not written" in result.stderr
    assert not (project / "runs/notebooks/toy-quick.ipynb").exists()


def test_a_notebook_that_cannot_be_read_fails_its_own_paper_alone(project, monkeypatch):
    papers = {name: replace(TOY, name=name) for name in ("torn", "toy", "beside")}
    monkeypatch.setattr(cli, "PAPERS", ("torn", "toy"))
    monkeypatch.setattr(cli, "find_paper", papers.get)
    monkeypatch.setattr(cli, "pages_beside", lambda: [papers["beside"]])
    for name in ("torn", "beside"):
        (project / f"nbs/{name}.ipynb").write_text('{"cells": [\n<<<<<<< HEAD\n]}')
    result = call("reproduce", "--scale", "smoke", "--json")
    records = {r["paper"]: r for r in json.loads(result.stdout)}
    states = {name: r["state"] for name, r in records.items()}
    assert result.exit_code == 1
    assert states == {"toy": "done", "torn": "failed", "beside": "failed"}
    assert records["toy"]["figures"] == [str(project / "figures/smoke/toy/dot.png")]
    assert "torn cannot begin: " in result.stderr and "nbdev_fix" in result.stderr
    alone = call("reproduce", "torn")
    assert alone.exit_code == 1 and alone.stdout == "" and "nbdev_fix" in alone.stderr


def test_after_a_signal_nothing_else_begins(project, monkeypatch):
    monkeypatch.setattr(cli, "pages_beside", lambda: [TOY])
    stopped = lambda jobs, *_: [Outcome(job, "stopped", 1.0, "was stopped", 143) for job in jobs]
    monkeypatch.setattr(cli, "run_jobs", stopped)
    result = call("reproduce", "--scale", "smoke")
    assert result.exit_code == 143 and "not begun" in result.stdout


def test_several_notebooks_share_the_cores(project, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    write_notebook(
        project,
        "assert scale == 'smoke'",
        GOOD,
        'import os; (folder / "threads.txt").write_text(os.environ["OMP_NUM_THREADS"])',
    )
    outcomes = run_jobs([make_job(TOY, {"scale": s}) for s in ("smoke", "paper")], workers=2)
    assert [o.state for o in outcomes] == ["done", "failed"] and "AssertionError" in outcomes[
        1
    ].message
    assert int((project / "figures/smoke/toy/threads.txt").read_text()) == max(
        1, len(os.sched_getaffinity(0)) // 2
    )


def test_reproduce_on_a_scheduler_that_is_there(project, monkeypatch):
    "The notebook is executed by a worker, once; parameters reach it."
    from genpapers.companion import cluster as places

    with places.cluster(workers=1) as client:
        words = (
            "reproduce",
            "toy",
            "--scale",
            "smoke",
            "-p",
            "epochs",
            "3",
            "--engine",
            "dask",
            "--scheduler",
            client.scheduler.address,
        )
        first, second = call(*words), call(*words)
    assert first.exit_code == 0, first.output
    assert read_json(project / "figures/smoke/toy/results.json")["epochs"] == 3
    assert (
        "toy: done after" in first.stderr
        and "toy: unchanged after" in second.stderr
        and executions(project) == 1
    )


@pytest.mark.parametrize("words", ["list", "list --json"])
def test_a_reader_that_has_seen_enough_is_no_error(words):
    code = f"from genpapers.companion.cli import main; main({words.split()!r})"
    command = [sys.executable, "-c", code]
    ours, theirs = os.pipe()
    os.close(ours)  # nobody reads
    run = subprocess.run(command, cwd=ROOT, stdout=theirs, stderr=subprocess.PIPE, text=True)
    os.close(theirs)
    assert (run.returncode, run.stderr) == (141, "")


def test_params_show_types_defaults_limits_and_help(project):
    shown = call("params", "toy").stdout
    assert all(
        w in shown for w in ("epochs", "int", "99", "1 to 100", "passes", "smoke, quick, paper")
    )


def test_claims_are_read_from_the_results(project):
    assert "symvae has no results yet" in call("claims").stdout
    shutil.copy(ROOT / "nbs/symvae.ipynb", project / "nbs")
    results = read_json(ROOT / "figures/symvae/results.json")
    results["claims"] = [results["claims"][0] | {"ours": 0.98765, "verdict": "holds"}]
    for place in ("figures", "figures/longer"):
        write_json(project / place / "symvae/results.json", results)
    said = call("claims").stdout
    assert (
        "0.9877" in said
        and "longer" in said
        and "no result of symvae says anything about C2, C3" in said
        and "symvae has no results" not in said
    )
    records = json.loads(call("claims", "--json").stdout)
    assert [(r["paper"], r["name"], r["setting"], r["verdict"]) for r in records] == [
        ("symvae", "C1", s, "holds") for s in ("quick", "longer (quick)")
    ]


def test_a_folder_that_cannot_be_is_a_sentence(project):
    (project / "runs").write_text("a file where a folder must be")
    result = call("run", "toy", "--scale", "smoke")
    assert (
        result.exit_code == 1
        and "cannot be read or written" in result.stderr
        and "Traceback" not in result.output
    )
    assert result.stderr.strip().splitlines()[-1].startswith("Error: ")


@pytest.mark.parametrize("state, status", [("ok", 0), ("note", 0), ("problem", 1)])
def test_doctor_fails_on_problems_only(monkeypatch, state, status):
    from genpapers.companion import doctor

    monkeypatch.setattr(
        doctor,
        "examine",
        lambda *_: [
            doctor.Finding("ok", "python", "3.12"),
            doctor.Finding(state, "disk", "1 GB free", "make room"),
        ],
    )
    result = call("doctor")
    assert (
        result.exit_code == status
        and result.stdout.splitlines()[1] == f"{state:8} disk      1 GB free: make room"
    )


TINY = ("--scale", "smoke", "-p", "niterations", "2", "-p", "models", "adversarial")
CLAIM = {"name": "C3", "statement": "s", "published": "p", "where": "w", "rule": "r"}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    "A project with the runs of two seeds, results that rest on the first, and what was said."
    folder = tmp_path_factory.mktemp("swept")
    (folder / "settings.ini").write_text("[DEFAULT]\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        said = call("sweep", "mnist_style", *TINY, "--seeds", "2", "--json")
    assert said.exit_code == 0, said.output
    found = json.loads(said.stdout)
    first = next(iter(found["runs"].values()))
    results = {"paper": "mnist_style", "scale": "quick", "runs": {"a": {"key": first["key"]}}}
    results["claims"] = [CLAIM | {"ours": 0.5, "verdict": "open"}]
    write_json(folder / "figures/mnist_style/results.json", results)
    return folder, found


def test_sweep_trains_each_seed_and_writes_what_came_out(swept):
    folder, found = swept
    names = [Path(run["folder"]).name.rpartition("-")[0] for run in found["runs"].values()]
    assert names == ["adversarial-s0", "adversarial-s1"] and found["failed"] == []
    (row,) = found["rows"]
    assert row["run"] == "adversarial" and len(row["metrics"]["reconstruction"]) == 2
    assert Path(found["figure"]).is_file() and read_json(found["file"])["rows"] == [row]
    assert Path(found["figure"]).is_relative_to(folder)


def test_sweep_on_dask_finds_what_was_trained_without(swept, monkeypatch):
    folder, found = swept
    monkeypatch.chdir(folder)
    words = ("--seeds", "2", "--engine", "dask", "--jobs", "1", "--json")
    again = json.loads(call("sweep", "mnist_style", *TINY, *words).stdout)
    places = [{k: run["folder"] for k, run in f["runs"].items()} for f in (again, found)]
    assert places[0] == places[1] and again["rows"] == found["rows"]


def test_compare_shows_the_claims_that_rest_on_a_run(swept, monkeypatch):
    folder, _ = swept
    monkeypatch.chdir(folder)
    said = call("compare", "mnist_style/adversarial", "mnist_style/adversarial-s1", "--json")
    compared = json.loads(said.stdout)
    assert {"parameter": "name", **names_beside(folder)} in compared["parameters"]
    (claim,) = compared["claims"]
    assert claim.pop("claim") == "mnist_style C3"
    assert ["0.5" in text for text in claim.values()] == [True, False], claim
    assert (folder / compared["picture"]).is_file()


def names_beside(folder: Path) -> dict[str, str]:
    "What each of two runs is called, by its place."
    runs = sorted((folder / "runs/mnist_style").iterdir())
    runs = [f for f in runs if f.is_dir()]
    return {f"mnist_style/{f.name}": f.name.rpartition("-")[0] for f in runs}


def test_models_are_packed_and_fetched(swept, tmp_path, monkeypatch):
    folder, found = swept
    monkeypatch.chdir(folder)
    packed = call("pack-models", str(tmp_path / "models"), "mnist_style", "--json")
    files = [Path(f["file"]) for f in json.loads(packed.stdout)]
    assert [f.suffix for f in files] == [".zip", ".json"]
    assert sum(f.stat().st_size for f in files) < 1e6
    words = ("fetch-models", str(tmp_path / "models"), "--runs-dir", str(tmp_path / "runs"))
    (fetched,) = json.loads(call(*words, "--json").stdout)
    first = Path(next(iter(found["runs"].values()))["folder"])
    assert fetched["run"] == f"mnist_style/{first.name}" and fetched["new"]
    assert fetched["differs"] == []
    rules = (tmp_path / "runs" / fetched["run"] / "rules.json").read_bytes()
    assert rules == (first / "rules.json").read_bytes()
    assert "1 models, 0 of them new" in call(*words).stdout


def test_weights_go_out_and_come_in_as_published(swept, tmp_path, monkeypatch):
    import torch

    import genpapers

    folder, _ = swept
    monkeypatch.chdir(folder)
    out = call("export", "mnist_style/adversarial", "--weights", str(tmp_path / "weights"))
    assert out.exit_code == 0, out.output
    words = ("import", str(tmp_path / "weights"), "--published", "mnist_style")
    words += ("--config", "adversarial", "--runs-dir", str(tmp_path / "runs"))
    first, second = (json.loads(call(*words, "--json").stdout) for _ in "ab")
    assert (first["new"], second["new"]) == (True, False) and "flow_from" not in first["said"]
    ours, theirs = genpapers.load("mnist_style/adversarial"), genpapers.load(first["run"])
    assert torch.equal(ours.model.sample(labels=range(3)), theirs.model.sample(labels=range(3)))
    refused = call(*words, "--sha256", "0" * 64)
    assert refused.exit_code == 1 and "is a folder and has no SHA-256" in refused.stderr


def test_reproduce_takes_models_before_it_begins(project, tmp_path_factory, monkeypatch):
    import toy_training

    from genpapers.companion.models import pack_models

    monkeypatch.setenv("GENPAPERS_EXECUTION", "here")
    monkeypatch.setattr(reproduce, "_execute", execute_here)
    monkeypatch.setattr(cli, "run_jobs", lambda jobs, *_: [run_job(job) for job in jobs])
    there = tmp_path_factory.mktemp("there")
    run = toy_training.train(there / "runs", 5)
    results = {"paper": run.spec.paper, "runs": {"toy": {"key": run.key}}}
    write_json(there / "figures" / run.spec.paper / "results.json", results)
    pack_models(there / "models", [run.spec.paper], there / "figures", there / "runs")
    said = call("reproduce", "toy", "--scale", "smoke", "--models", str(there / "models"))
    assert said.exit_code == 0, said.output
    assert "1 models, 1 of them new" in said.stderr and executions(project) == 1
    assert (project / "runs" / run.spec.paper / run.folder.name / "done.json").is_file()
    nothing = call("reproduce", "toy", "--scale", "smoke", "--models", str(there))
    assert nothing.exit_code == 1 and "name the folder that holds models.json" in nothing.stderr

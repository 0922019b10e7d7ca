"""Longer trainings of the papers that go on from shorter ones: the same files to the last bit."""

from dataclasses import replace

import pytest
from states import differing, same

from genpapers.base.code import entry_of
from genpapers.base.paper import find_paper
from genpapers.base.parameters import completed, declared_parameters
from genpapers.train.checkpoint import load_state
from genpapers.train.runs import RunSettings, ensure

AMR = {"log_every": 2, "evaluate_every": 2}  # those of its plan follow the length
CASES = {
    "polymnist main-real-s0": (
        {"n": 2, "nz": 2, "ny": 4, "batch_size": 4, "log_every": 2},
        {},
        (2, 7),
    ),
    "nfpi mean-s0": ({"num_flows": "1", "num_blocks": "1", "samples_every": 16}, {}, (20, 24)),
    "amr dsprites-fm2-s0": ({"sprites": 20, "batch_size": 4}, AMR, (2, 3)),
}


def spec_of(case: str, niterations: int):
    "The specification of a case at scale smoke, of so many steps."
    (paper, name), (given, changes, _) = case.split(), CASES[case]
    page = find_paper(paper)
    values = {"scale": "smoke", "niterations": niterations} | given
    specs = entry_of(page.plan)(completed(page, declared_parameters(page), values))
    spec = next(s for s in specs if s.name == name)
    return replace(spec, config=spec.config | changes | {"niterations": niterations})


def files(run) -> dict:
    "What a run left behind, but for its seconds."
    found = {"metrics": (run.folder / "metrics.csv").read_bytes()}
    for path in run.folder.rglob("*.safetensors"):
        found[path.relative_to(run.folder).as_posix()] = load_state(path)
    found["checkpoint.safetensors"]["seconds"] = 0
    return found


@pytest.mark.parametrize("case", CASES)
def test_a_longer_training_goes_on(case, tmp_path, capfd):
    given = {"device": "cpu", "precision": "float32"}
    here, apart = (RunSettings(runs_dir=tmp_path / name, **given) for name in ("here", "apart"))
    short, long = (spec_of(case, n) for n in CASES[case][2])
    shorter, whole = ensure(short, here), ensure(long, apart)
    before = files(shorter)
    longer = ensure(long, here)
    words = (
        f"{case.replace(' ', '/')} goes on from step {CASES[case][2][0]} of {shorter.folder.name}"
    )
    assert words in capfd.readouterr().err
    assert differing(files(longer), files(whole)) == []
    assert same(files(shorter), before) and ensure(short, here).reused

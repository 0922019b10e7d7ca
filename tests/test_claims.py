"""Every claim has a rule that can be computed, and the committed verdicts are what it gives."""

import pytest
from places import ROOT

from genpapers.base.paper import SCALES, available_papers
from genpapers.companion.findings import recomputed
from genpapers.companion.ledger import find_reproductions

FOUND = find_reproductions(ROOT / "figures")


@pytest.mark.parametrize("paper", available_papers(), ids=lambda p: p.name)
def test_rules_are_numbers(paper):
    for claim in paper.claims:
        assert claim.conditions, f"{paper.name} {claim.name} has a rule in words alone"
        assert set(claim.decidable) <= set(SCALES[1:]) and "smoke" not in claim.decidable
        assert list(claim.decidable) == sorted(claim.decidable, key=SCALES.index)


@pytest.mark.parametrize("found", FOUND, ids=lambda r: f"{r.paper}-{r.setting}")
def test_committed_verdicts_follow_from_their_numbers(found):
    page = next(p for p in available_papers() if p.name == found.paper)
    for row in recomputed(found.results, page):
        assert row["stated"] == row["computed again"], row
        assert row["rule"] == "as on the page", row

"""Every claim has a rule that can be computed, and the committed verdicts are what it gives."""

import pytest
from places import ROOT, cells

from genpapers.base.paper import SCALES, available_papers
from genpapers.companion.findings import recomputed
from genpapers.companion.ledger import find_reproductions
from genpapers.companion.tables import claims_table

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


LARGER = [r for r in FOUND if SCALES.index(r.scale) > SCALES.index("quick")]


LARGEST = {r.paper: r for r in sorted(LARGER, key=lambda r: SCALES.index(r.scale))}.values()


@pytest.mark.parametrize("found", LARGEST, ids=lambda r: f"{r.paper}-{r.setting}")
def test_a_page_begins_with_what_the_largest_scale_found(found):
    page = next(p for p in available_papers() if p.name == found.paper)
    shown = [o for c in cells(ROOT / page.notebook) for o in c.get("outputs", ())]
    html = ["".join(o.get("data", {}).get("text/html", "")) for o in shown]
    (first, *_) = (text for text in html if "claim" in text and "verdict" in text)
    assert claims_table(found.results["claims"]) in first
    assert f"At scale {found.scale}, the largest that was run" in first
    (caption, *_) = (text for text in html if "figure-caption" in text)
    assert f"scale {found.scale}" in caption

"""Every claim has a rule that can be computed, and the committed verdicts are what it gives."""

import pytest
from places import ROOT, cells

from genpapers.base.paper import SCALES, available_papers
from genpapers.companion.findings import recomputed, verdict_in_words
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


LARGER = [r for r in FOUND if SCALES.index(r.scale) > SCALES.index("quick")]


@pytest.mark.parametrize("found", LARGER, ids=lambda r: f"{r.paper}-{r.setting}")
def test_a_page_shows_what_larger_scales_found(found):
    page = next(p for p in available_papers() if p.name == found.paper)
    shown = [o for c in cells(ROOT / page.notebook) for o in c.get("outputs", ())]
    html = "".join("".join(o.get("data", {}).get("text/html", "")) for o in shown)
    claims = found.results["claims"]
    verdicts = "; ".join(f"<b>{c['name']}</b> {verdict_in_words(c)}" for c in claims)
    assert (
        f"<p>At scale {found.scale}, in {found.path.parent.relative_to(ROOT)}: {verdicts}." in html
    )

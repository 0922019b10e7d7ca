"""The documentation is built once, and every page is looked at in a browser that has no network."""

import importlib
import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser import chromium
from filelock import FileLock
from PIL import Image
from places import NOTEBOOKS, ROOT, cells, environment, relative

from genpapers.base.paper import available_papers
from genpapers.base.parameters import declared_parameters

README = "install.html"  # the page of nbs/index.ipynb; the site opens with one of its own
PAGES = [README, *(relative(p).replace(".ipynb", ".html") for p in NOTEBOOKS)]
LOOK = """() => {
    const raw = document.createTreeWalker(document.querySelector('main'), NodeFilter.SHOW_TEXT);
    const prose = [];
    while (raw.nextNode())
        if (!raw.currentNode.parentElement.closest('pre, code, math, script'))
            prose.push(raw.currentNode.data);
    const area = m => (r => r.width * r.height)(m.getBoundingClientRect());
    return {
        prose: prose.join(''),
        missing: [...document.images].filter(i => !i.naturalWidth).map(i => i.src.slice(0, 100)),
        flat: [...document.querySelectorAll('math')].filter(m => !area(m)).length,
        title: document.querySelector('h1')?.innerText.trim() ?? '',
    };
}"""
TOO_WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
FOUND = ".smalldocs-search-results a"
WIDE, NARROW = 1400, 390  # pixels of a window
PARTS = 6  # of the pages, so that workers share them
RAW = ("$$", r"\(", r"\[", "#|", "{target=", "<!--")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    "The site, built by whichever worker comes first."
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "docs"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            command = [sys.executable, ROOT / "scripts" / "docs.py", folder]
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=environment(measured=False),
                capture_output=True,
                text=True,
                timeout=600,
            )
            assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser):
    "A page of a browser without a network; what goes wrong is noted in `page.faults`."
    context = browser.new_context(
        viewport={"width": WIDE, "height": 900}, offline=True, reduced_motion="reduce"
    )
    context.set_default_timeout(120_000)  # a machine that tests is busy
    page = context.new_page()
    page.faults = []
    page.on(
        "console", lambda m: page.faults.append(m.text) if m.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda e: page.faults.append(str(e)))
    page.on(
        "requestfailed",
        lambda r: (
            None
            if r.failure == "net::ERR_ABORTED"  # by leaving the page while its icon was loaded
            else page.faults.append(f"{r.url} did not load")
        ),
    )
    page.on(
        "request",
        lambda r: (
            None
            if r.url.startswith(("file:", "data:"))
            else page.faults.append(f"{r.url} is elsewhere")
        ),
    )
    yield page
    context.close()


def faults(page, url: str) -> list[str]:
    "What is wrong with a page, in a wide and in a narrow window; the next page begins in the last."
    page.faults.clear()
    page.goto(url)
    look = page.evaluate(LOOK)
    found = [f"shows {raw} raw" for raw in RAW if raw in look["prose"]]
    found += [f"picture {src} is empty" for src in look["missing"]]
    found += ["formula without size"] if look["flat"] else []
    found += ["no title"] if not look["title"] else []
    width = page.viewport_size["width"]
    for w in (width, WIDE + NARROW - width):
        page.set_viewport_size({"width": w, "height": 900})
        found += [f"wider than a window of {w}"] if page.evaluate(TOO_WIDE) > 0 else []
    return found + page.faults


def test_every_notebook_is_a_page(site):
    assert sorted(p.relative_to(site).as_posix() for p in site.rglob("*.html")) == sorted(PAGES)


def test_every_page_is_in_the_contents(site):
    index = (site / "index.html").read_text(encoding="utf-8")
    contents = index[index.index('id="quarto-sidebar"') : index.index("<main")]
    assert set(re.findall(r'href="([^"#:]+\.html)"', contents)) >= set(PAGES)


def markup(path: Path) -> str:
    "A page's HTML without its scripts."
    text = path.read_text(encoding="utf-8")
    return re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)


def test_every_link_leads_somewhere(site):
    "Files are there, and so are the places in pages that links name."
    pages = {p.resolve(): markup(p) for p in site.rglob("*.html")}
    ids = {p: set(map(unescape, re.findall(r'\sid="([^"]+)"', t))) for p, t in pages.items()}
    broken = []
    for page, text in pages.items():
        for link in set(map(unescape, re.findall(r'<[^>]+\s(?:href|src)="([^"]*)"', text))):
            parts = urlsplit(link)
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            place = unquote(parts.fragment)
            if parts.scheme or parts.netloc or link == "#":
                continue
            if not target.exists() or (place and place not in ids.get(target, {place})):
                broken.append(f"{page.relative_to(site.resolve())} leads to {link}")
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize("part", range(PARTS))
def test_every_page_is_whole(site, page, part):
    urls = {name: (site / name).as_uri() for name in PAGES[part::PARTS]}
    found = {name: wrong for name, url in urls.items() if (wrong := faults(page, url))}
    assert not found, "\n".join(f"{name}: {'; '.join(wrong)}" for name, wrong in found.items())


def test_formulas_are_drawn(site, page):
    page.goto((site / "nfpi" / "fpi.html").as_uri())
    assert page.locator("math").count() > 30 and page.locator("math[display=block]").count() > 3
    assert (
        page.evaluate("document.fonts.load('16px \"Pages Math\"').then(found => found.length)") == 1
    )


@pytest.mark.parametrize("paper", available_papers(), ids=lambda p: p.name)
def test_a_paper_shows_its_figures_and_claims(site, page, paper):
    page.goto((site / f"{paper.name}.html").as_uri())
    assert page.locator("main .cell-output img").count() >= min(4, len(paper.figures))
    text = page.locator("main").inner_text()
    assert all(claim.statement[:40] in text for claim in paper.claims) and "verdict" in text


PAPERS = tuple(paper.name for paper in available_papers())
FIGURES = """[...document.querySelectorAll('figure.shown')].map(f => {
    const i = f.querySelector('img'), name = f.querySelector('figcaption a');
    return [i.naturalWidth, i.naturalHeight, i.alt, f.innerText, name && name.getAttribute('href')];
})"""


@pytest.mark.parametrize("paper", available_papers(), ids=lambda p: p.name)
def test_figures_are_whole(site, page, paper):
    "Each is the saved file, has words for those who do not see it, and a caption with its number."
    outputs = [o for c in cells(ROOT / paper.notebook) for o in c.get("outputs", ())]
    html = ["".join(o.get("data", {}).get("text/html", "")) for o in outputs]
    captions = [text for text in html if "figure-caption" in text]
    page.goto((site / f"{paper.name}.html").as_uri())
    shown = page.evaluate(FIGURES)
    assert len(shown) == len(captions)
    for width, height, alt, text, file in shown:
        assert re.match(r"Figure \d+\. .", alt) and re.match(r"Figure \d+\. .", text)
        if file:
            with Image.open(ROOT / "figures" / file.partition("figures/")[2]) as saved:
                assert (width, height) == saved.size, file


def test_a_click_shows_the_whole_figure(site, page):
    page.goto((site / "mnist_style.html").as_uri())
    buttons = page.locator("figure.shown > button")
    if not buttons.count():
        pytest.skip("the notebook's outputs are of a time before its figures had captions")
    whole = page.locator(".whole").first
    assert not whole.is_visible()
    buttons.first.click()
    assert whole.is_visible()
    page.keyboard.press("Escape")
    assert not whole.is_visible()


@pytest.mark.parametrize("name", PAPERS)
def test_an_explorer_works_without_a_kernel(site, page, name):
    page.goto((site / f"{name}.html").as_uri())
    explorer = page.locator("figure.explorer").first
    picture = lambda: explorer.locator("img").evaluate("i => i.src + ' ' + i.naturalWidth")
    seen = {picture()}
    for control in explorer.locator("input").all():
        if control.get_attribute("type") == "range":
            control.focus()
            page.keyboard.press("End")
        else:
            control.check()
        seen.add(picture())
    assert len(seen) >= explorer.locator("fieldset").count() and not page.faults
    assert explorer.locator("figcaption").inner_text() and "undefined" not in "".join(seen)


GUIDES = tuple(p.stem for p in NOTEBOOKS if p.parent == ROOT / "nbs" and p.stem not in PAPERS)
LOOKED_AT = ("index", "install", *PAPERS, *sorted(set(GUIDES) - {"index"}), "train/loop")
# Of the elements with words of their own, one of each look: what is behind them, and their letters.
LOOKS = """[...document.querySelectorAll('body *')].reduce((seen, e) => {
    if ([...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) && e.checkVisibility()) {
        const s = getComputedStyle(e), key = [s.color, s.fontSize, s.fontWeight, e.localName];
        for (let up = e; up; up = up.parentElement) {
            const { backgroundColor, opacity } = getComputedStyle(up);
            key.push(opacity);
            if (backgroundColor !== 'rgba(0, 0, 0, 0)') { key.push(backgroundColor); break; }
        }
        if (!seen.has(key.join())) seen.set(key.join(), e);
    }
    return seen;
}, new Map()).values()"""
STRUCTURE = "axe.run({resultTypes: ['violations'], rules: {'color-contrast': {enabled: false}}})"
RULES = "{resultTypes: ['violations'], runOnly: ['color-contrast', 'link-in-text-block']}"
SETTLED = "new Promise(done => requestAnimationFrame(() => setTimeout(() => done(true))))"
SCROLLED = "axe.run({runOnly: ['scrollable-region-focusable']})"
COLOURS = f"axe.run({{include: [...{LOOKS}]}}, {RULES})"
BACKGROUND = "getComputedStyle(document.body).backgroundColor"
IS_DARK = "document.documentElement.classList.contains('quarto-dark')"
LIGHT, DARK = "rgb(255, 255, 255)", "rgb(33, 37, 41)"


def serious(page, run: str) -> list[str]:
    "What axe-core finds that is serious, or critical."
    violations = page.evaluate(f"{run}.then(found => found.violations)")
    return [
        f"{v['id']}: {', '.join(node['html'][:100] for node in v['nodes'][:3])}"
        for v in violations
        if v["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("name", LOOKED_AT)
def test_axe_finds_nothing_serious(site, page, name):
    "The structure once; in light and in dark the colours of every look that words have."
    page.goto((site / f"{name}.html").as_uri())
    page.evaluate(Axe().axe_script)
    found = serious(page, STRUCTURE) + serious(page, COLOURS)
    page.locator(".quarto-color-scheme-toggle").first.evaluate("e => e.click()")
    page.wait_for_function(f"{BACKGROUND} === '{DARK}' && {IS_DARK}")
    page.evaluate("Promise.all(document.getAnimations().map(a => a.finished))")
    found += [f"dark, {words}" for words in serious(page, COLOURS)]
    page.set_viewport_size({"width": NARROW, "height": 900})
    page.wait_for_function(SETTLED)
    found += [f"narrow, {words}" for words in serious(page, SCROLLED)]
    page.set_viewport_size({"width": WIDE, "height": 900})
    assert not found, "\n".join(found)


def test_a_library_page_documents_what_it_exports(site, page):
    page.goto((site / "train" / "loop.html").as_uri())
    module = importlib.import_module("genpapers.train.loop")
    exported = {n for n in module.__all__ if callable(getattr(module, n))}
    assert exported <= {h.strip() for h in page.locator("h3").all_inner_texts()}
    source = page.locator("details.code-fold").first
    assert not source.locator("pre").is_visible()
    source.locator("summary").click()
    assert source.locator("pre").is_visible()


def test_search_finds_a_page(site, page):
    page.goto((site / "amr" / "mixers.html").as_uri())
    page.locator("input[type=search], .smalldocs-search input").first.click()
    page.keyboard.type("Fréchet distance", delay=5)
    result = page.locator(f"{FOUND}[href*='frechet.html']").first
    result.wait_for(state="visible")
    result.click()
    page.wait_for_url("**/metrics/frechet.html*")
    assert "Fréchet distance" in page.locator("h1").first.inner_text() and not page.faults


def test_search_answers_the_last_words_where_its_index_comes_late(site, page):
    "Words typed before the index is there: each asks for it, and the last ones are answered."
    asked = []
    page.route("**/search.json.js", lambda route: asked.append(route))
    page.goto((site / "amr" / "mixers.html").as_uri())
    words = page.locator("input[type=search]").first
    for typed in ("mix", "polymnist", "Fréchet distance"):
        words.fill(typed)
        page.wait_for_timeout(200)
    for route in asked:
        route.continue_()
    page.locator(f"{FOUND}[href*='frechet.html']").first.wait_for(state="visible")
    assert len(asked) == 1 and not page.faults


def test_search_puts_papers_and_guides_first(site, page):
    page.goto((site / "index.html").as_uri())
    for words, first in (("symvae", "symvae.html"), ("polymnist", "polymnist.html")):
        page.locator("input[type=search]").first.fill(words)
        page.wait_for_function(f"document.querySelector('{FOUND}')?.href.includes('{first}')")
    assert page.locator(FOUND).count() > 3 and not page.faults


def test_the_first_page_leads_to_a_result(site, page):
    "From the landing page to a paper's idea, its result and its verdict, past no open code."
    page.goto((site / "index.html").as_uri())
    cards = page.locator("a.card")
    assert cards.count() == len(available_papers()) and page.locator("table.outcomes").count() == 1
    cards.nth(1).click()
    page.wait_for_load_state()
    headings = [h.strip() for h in page.locator("main h2").all_inner_texts()]
    assert headings[:2] == ["The result", "The idea"] and "Claims" in headings
    assert not page.locator("main .cell-code:visible").count()
    assert page.locator(".page-actions a[download]").count() == 1 and not page.faults


def test_the_keyboard_skips_the_contents(site, page):
    page.goto((site / "amr.html").as_uri())
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.url.endswith("#quarto-document-content")


def test_a_parameter_is_no_function(site):
    "No page leads from the name of a paper's parameter to a function that is called so, too."
    names = {p.name for paper in available_papers() for p in declared_parameters(paper, ROOT)}
    linked = re.compile(r'<a href="[^"#]*#[^"]*"><code>(\w+)</code></a>')
    for path in site.rglob("*.html"):
        assert not names & set(linked.findall(markup(path))), path


def test_dark_mode_switches_and_stays(site, page):
    page.goto((site / "index.html").as_uri())
    light = page.evaluate(BACKGROUND)
    page.locator(".quarto-color-scheme-toggle").first.click()
    page.wait_for_function(f"{BACKGROUND} != '{light}'")
    page.goto((site / "nfpi" / "fpi.html").as_uri())
    assert light == LIGHT and page.evaluate(BACKGROUND) == DARK
    assert page.locator("math").first.evaluate("m => getComputedStyle(m).color") == page.evaluate(
        "getComputedStyle(document.body).color"
    )

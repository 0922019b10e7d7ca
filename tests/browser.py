"""A headless Chromium for the tests that look at pages."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Playwright, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# As root Chromium refuses its sandbox; the others keep it from asking for updates and the like.
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
ARGUMENTS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


def chromium_path(playwright: Playwright) -> str | None:
    "A Chromium that is installed here: by name, else the one that Playwright downloaded."
    own = playwright.chromium.executable_path
    return next(filter(None, map(shutil.which, BROWSERS)), own if Path(own).exists() else None)


@contextmanager
def chromium(**options) -> Iterator[Browser]:
    "A running headless Chromium; the test is skipped where there is none."
    with sync_playwright() as playwright:
        path = chromium_path(playwright)
        if path is None:
            pytest.skip(
                f"no Chromium here: looked for {', '.join(BROWSERS)} and Playwright's own "
                "(`playwright install chromium` gets it)"
            )
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS, **options)
        try:
            yield browser
        finally:
            browser.close()

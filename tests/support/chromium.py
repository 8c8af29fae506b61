"""A real browser: the Chromium of the system, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

from tests.support.requirements import missing

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
# Root may not have a sandbox, and a test's browser asks nobody else for anything.
ARGUMENTS = ("--no-sandbox", "--disable-background-networking", "--disable-component-update")


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser without a window; ends the asking test where there is none."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        missing("chromium", "the dashboard's journeys need Chromium (Debian: apt install chromium)")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        try:
            yield started
        finally:
            started.close()

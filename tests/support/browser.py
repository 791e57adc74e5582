"""A real browser, and what judges pages in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.support.source import ROOT

CHROMIUM = "/usr/bin/chromium"

#: Where `make browser-deps` puts what npm's lock names.
AXE = ROOT / "tests/browser/node_modules/axe-core/axe.min.js"


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run Debian's Chromium without a screen. Skips the test where there is none."""
    program = shutil.which("chromium") or CHROMIUM
    if not Path(program).exists():
        pytest.skip("no chromium is installed")
    with sync_playwright() as playwright:
        # Without the sandbox, which root cannot have; all that it loads is ours.
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        try:
            yield browser
        finally:
            browser.close()

"""The distribution's browser for tests, driven by Playwright (install_browser.sh installs it)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PROGRAM = shutil.which("chromium")
SWITCHES = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage",
)  # fmt: skip
"""It may run as root in a container, and asks nobody on the network for anything of its own."""
WAIT_MILLISECONDS = 60_000
"""How long the browser may take for anything, on a machine that does other things too."""


def needs_browser(test: Any) -> Any:
    """Mark a test that wants it: `make test-browser` runs it, and says where it is missing."""
    skip = pytest.mark.skipif(
        PROGRAM is None,
        reason="chromium not installed; tests/contract/install_browser.sh installs it (as root): "
        "make test-browser",
    )
    return pytest.mark.browser(skip(test))


@contextmanager
def browser() -> Iterator[Browser]:
    """Run the browser, with a profile of its own that ends with it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=PROGRAM, args=list(SWITCHES), timeout=WAIT_MILLISECONDS
        )
        try:
            yield running
        finally:
            running.close()


@contextmanager
def opened(running: Browser, page: Path, **look: Any) -> Iterator[tuple[Page, list[str]]]:
    """Open a file as a reader would; beside it a list of all that was asked for or complained of."""
    context = running.new_context(**look)
    context.set_default_timeout(WAIT_MILLISECONDS)
    shown = context.new_page()
    noticed: list[str] = []
    shown.on("request", lambda request: noticed.append(f"asked for {request.url}"))
    shown.on("console", lambda message: noticed.append(f"console: {message.text}"))
    shown.on("pageerror", lambda error: noticed.append(f"error: {error}"))
    shown.on("dialog", lambda dialog: (noticed.append("a dialog"), dialog.dismiss()))
    shown.goto(page.as_uri())
    try:
        yield shown, noticed
    finally:
        context.close()

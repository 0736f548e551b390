"""A real browser for the tests: headless Chromium without a network, driven by playwright.

The system's Chromium is used; playwright's own download is not needed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
ARGUMENTS = ("--no-sandbox", "--disable-dev-shm-usage")
"""The tests may run as root, and in a container with little shared memory."""
WIDE = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}


def chromium_path() -> str:
    """Return where Chromium lies; skip the test without one, fail it where ``RESWEEP_REQUIRE_BROWSER=1``."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        reason = f"no browser: none of {', '.join(NAMES)} is on the path"
        pytest.fail(reason) if os.environ.get("RESWEEP_REQUIRE_BROWSER") == "1" else pytest.skip(reason)
    return found


@contextmanager
def open_chromium() -> Iterator[Browser]:
    """Start Chromium headless; it and its driver end with the block."""
    path = chromium_path()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


class Visit:
    """A page that has been opened from a file, and whatever it complained about or asked for.

    Args:
        browser: a running browser.
        path: the file.
        options: of playwright's ``new_context``, such as ``viewport``.

    Attributes:
        page: playwright's page.
        complaints: messages on its console and uncaught errors.
        requests: every URL it asked for, its own among them.
        refused: what became of requests that were not let through: URL and reason.
    """

    def __init__(self, browser: Browser, path: Path, **options: Any) -> None:
        self.context = browser.new_context(**({"viewport": WIDE} | options))
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(20_000)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.refused: list[tuple[str, str | None]] = []
        self.page.on("requestfailed", lambda request: self.refused.append((request.url, request.failure)))
        self.page.goto(path.resolve().as_uri())

    def close(self) -> None:
        self.context.close()

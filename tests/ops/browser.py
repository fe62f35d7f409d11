"""A headless Chromium of Debian's, on a page that a daemon serves, and all that it complains of.

Nothing is downloaded: Playwright drives the browser that is installed (`apt install chromium`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

CHROMIUM: Final = Path("/usr/bin/chromium")

_ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",  # tests may run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass  # without slots: Playwright leaves a mark on whose methods it calls
class Watched:
    """A page, with what its console said and whom it asked."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    """Errors and warnings of the console, violations of the policy among them."""
    hosts: set[str] = field(default_factory=set)
    requests: int = 0

    def open(self, url: str) -> None:
        """Go there, and wait until it shows what a daemon has said."""
        self.page.on("console", self.hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self.note)
        self.page.goto(url)
        expect(self.page.locator("#slot")).not_to_be_empty()

    def hear(self, message: ConsoleMessage) -> None:
        """Note what the console says."""
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)

    def note(self, request: Request) -> None:
        """Note who is asked."""
        if not request.url.startswith("data:"):
            self.hosts.add(urlsplit(request.url).netloc)
            self.requests += 1


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


def open_page(browser: Browser, url: str, *, width: int = 1280, scale: float = 1) -> Watched:
    """Open a page in a fresh profile."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, device_scale_factor=scale, locale="en-GB"
    )
    watched = Watched(context.new_page())
    watched.open(url)
    return watched


def cell(page: Page, table: str, column: str) -> str:
    """Give what the page says of a table."""
    row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name=table, exact=True))
    return row.locator(f"td[data-label={column}]").inner_text()

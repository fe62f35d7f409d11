"""A browser for the tests of what the daemon serves; skipped where none is installed."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.ops.browser import CHROMIUM, chromium

# Longer than the page waits between two questions, and a sample is away from the next.
PATIENCE_MS = 20_000


@pytest.fixture(scope="module")
def started() -> Iterator[Browser]:
    """One browser for all tests of a module."""
    if not CHROMIUM.exists():
        pytest.skip("no browser: apt install chromium")
    expect.set_options(timeout=PATIENCE_MS)
    with chromium() as browser:
        yield browser


@pytest.fixture
def browser(started: Browser) -> Iterator[Browser]:
    """The browser without any page; each that is opened has a profile of its own."""
    yield started
    for context in started.contexts:
        context.close()

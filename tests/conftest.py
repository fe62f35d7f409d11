"""Fixtures that every test may ask for; a test that asks for none starts no server.

`pair` and `credit_pair` run between PostgreSQL 18 servers; decorated with `on_every_version` (from
tests.servers) a test runs once for each pair of versions that Supabase and Neon make likely.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.effort import load_profile
from tests.pair import SUPABASE_EXTRAS, Pair, load, make_pair
from tests.servers import SessionServers, Versions
from tests.tally import count, counts, summary

load_profile()

# What the caller's shell says of cdc or libpq is not what the tests are about.
for name in [name for name in os.environ if name.startswith(("CDC_", "PG"))]:
    del os.environ[name]

# Each pair of databases is a copy of a template: twice as fast where memory is the disk.
MEMORY = Path("/dev/shm")
MEMORY_BYTES = 4 << 30
if "TMPDIR" not in os.environ and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MEMORY_BYTES:
    os.environ["TMPDIR"] = str(MEMORY)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send home what a worker of pytest-xdist counted."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["counted"] = counts()


def pytest_testnodedown(node: object) -> None:
    """Add what a worker counted; one that died has counted nothing."""
    for what, unit, number in getattr(node, "workeroutput", {}).get("counted", ()):
        count(what, unit, number)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how much was tried at random: a run that tried nothing would pass too."""
    if counted := summary():
        terminalreporter.write_line(counted)


@pytest.fixture(scope="session")
def servers() -> Iterator[SessionServers]:
    """Servers of the session; each starts when it is first asked for."""
    session_servers = SessionServers()
    yield session_servers
    session_servers.close()


@pytest.fixture
def versions(request: pytest.FixtureRequest) -> Versions:
    """Versions of the pair's servers: 18 and 18, unless the test is `on_every_version`."""
    chosen = getattr(request, "param", Versions())
    assert isinstance(chosen, Versions)
    return chosen


@pytest.fixture
def pair(servers: SessionServers, versions: Versions, tmp_path: Path) -> Iterator[Pair]:
    """Two empty databases, with names and a state directory of their own."""
    with make_pair(servers, versions, tmp_path / "state", credit=False) as made:
        yield made


@pytest.fixture
def credit_pair(servers: SessionServers, versions: Versions, tmp_path: Path) -> Iterator[Pair]:
    """Two databases with the credit schema, without rows, owned by the platforms' roles."""
    with make_pair(servers, versions, tmp_path / "state", credit=True) as made:
        yield made


@pytest.fixture
def supabase_pair(credit_pair: Pair) -> Pair:
    """A credit pair whose source also has row level security and a key to `auth.users`."""
    load(credit_pair.source_admin_dsn, SUPABASE_EXTRAS)
    return credit_pair

"""A promotion that is killed: it is wholly done or not at all, and run again it is done."""

import signal
import subprocess
import sys

import pytest

from tests.databases import fetch, run_sql, wait_until
from tests.failing_over import Bank, asked, copied_bank, dead_source, definitions
from tests.faults import kill_points
from tests.faults.kill_points import Point
from tests.faults.killed_at import farewell
from tests.pair import Pair
from tests.process import environment, streaming
from tests.servers import CHECKOUT

PROMOTED = "select promoted_at is not null from cdc.checkpoint"
LAST = "select 1 from credit.bank where code = 'last'"

before_it = pytest.mark.parametrize(
    "point", kill_points.BEFORE_PROMOTION, ids=[p.name for p in kill_points.BEFORE_PROMOTION]
)
after_it = pytest.mark.parametrize(
    "point", kill_points.AFTER_PROMOTION, ids=[p.name for p in kill_points.AFTER_PROMOTION]
)


@pytest.fixture
def bank(pair: Pair) -> Bank:
    """A pair that is copied."""
    return copied_bank(pair)


@before_it
def test_killed_before_its_commit(bank: Bank, point: Point) -> None:
    """Nothing of it is there, and a daemon that it had cut off goes on; then it is repeated."""
    pair = bank.pair
    prepared = definitions(pair.target_admin_dsn)
    with streaming(pair) as daemon:
        kill(pair, point)
        assert fetch(pair.target_dsn, PROMOTED) == [False]
        assert definitions(pair.target_admin_dsn) == prepared
        run_sql(pair.source_dsn, "insert into credit.bank values ('last', 'x')")
        wait_until(lambda: bool(fetch(pair.target_dsn, LAST)), 60)
        assert daemon.process.poll() is None
    promote_again(bank, before=False)


@after_it
def test_killed_after_its_commit(bank: Bank, point: Point) -> None:
    """All of it is there; what is left to be validated, it validates when it is repeated."""
    kill(bank.pair, point)
    assert fetch(bank.pair.target_dsn, PROMOTED) == [True]
    promote_again(bank, before=True)


def promote_again(bank: Bank, *, before: bool) -> None:
    """Expect that the same command completes it, once."""
    pair = bank.pair
    with dead_source(pair):
        answer = asked(pair, "promote", "--yes")
    assert answer["before"] is before
    assert answer["unvalidated"] == []
    assert definitions(pair.target_admin_dsn) == bank.before
    entries = "select count(*)::int from cdc.ledger where event = 'promoted'"
    assert fetch(pair.target_dsn, entries) == [1]


def kill(pair: Pair, point: Point) -> None:
    """Run a promotion that dies at a point."""
    command = ["failover", "promote", "--yes"]
    result = subprocess.run(
        [sys.executable, "-m", "tests.faults.killed_at", point.name, "--", *command],
        cwd=CHECKOUT,
        env=environment(pair),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert result.returncode == -signal.SIGKILL, result.stderr
    assert result.stderr.endswith(farewell(point)), result.stderr

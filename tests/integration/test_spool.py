"""The target away for long, with a spool: the source is let go of, nothing is lost or doubled."""

import pytest

from cdc.lsn import parse_lsn
from tests.accounts import INSERT, SCHEMA, rows
from tests.databases import confirmed, fetch, migrate, run_sql, wait_until
from tests.pair import Pair, same_rows
from tests.process import drain, streaming
from tests.servers import stoppable

SPOOL = {"CDC_SPOOL_MAX_BYTES": "100000000", "CDC_SPOOL_AFTER": "0.5"}
QUEUEING = "streaming by way of the spool"


@pytest.fixture
def tiny(pair: Pair) -> Pair:
    """Two databases with one empty table; `cdc run` initializes them by itself."""
    migrate(pair, SCHEMA)
    return pair


def source_lsn(pair: Pair) -> int:
    """Give where the source's WAL ends."""
    (lsn,) = fetch(pair.source_dsn, "select pg_current_wal_flush_lsn()::text")
    return parse_lsn(str(lsn))


def test_queues_while_the_target_is_away(tiny: Pair) -> None:
    """The source is confirmed while the target is away; back again, the target gets it in order."""
    with streaming(tiny, SPOOL) as daemon:
        stoppable(tiny.target).stop()
        run_sql(tiny.source_dsn, INSERT, 1, 10)
        daemon.wait_for_log(QUEUEING)
        run_sql(tiny.source_dsn, INSERT, 11, 20)
        at = source_lsn(tiny)
        wait_until(lambda: parse_lsn(confirmed(tiny)) >= at)
        run_sql(tiny.source_dsn, "update credit.account set balance = 7 where id < 15")
        stoppable(tiny.target).start()
        wait_until(lambda: rows(tiny) == 20)
        daemon.wait_for_log("all that was queued is applied")
        run_sql(tiny.source_dsn, INSERT, 21, 30)
        wait_until(lambda: rows(tiny) == 30)
        assert daemon.terminate() == 0, daemon.log()
    drain(tiny)
    assert same_rows(tiny) == {"account": 30}

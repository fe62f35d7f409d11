"""What happens to a table between two chunks of its copy, or between a snapshot and its reading."""

import psycopg
import pytest

from tests.databases import fetch, migrate, run_sql, wait_until, waits_for_lock
from tests.pair import Pair, same_rows
from tests.process import drain, ok, spawn_cdc

ONE = {"CDC_SNAPSHOT_CHUNK_BYTES": "16384", "CDC_SNAPSHOT_WORKERS": "1"}


@pytest.mark.parametrize("ddl", ["alter table credit.b alter n type bigint", "truncate credit.b"])
def test_rewritten_after_the_snapshot(pair: Pair, ddl: str) -> None:
    """A snapshot shows no row of a table that was rewritten since: the table is read again."""
    tables = "create table credit.a (id int primary key); create table credit.b (id int primary key"
    migrate(pair, f"create schema credit; {tables}, n int);")
    run_sql(pair.source_dsn, "insert into credit.a values (1); insert into credit.b values (1, 1)")
    ok(pair, "init")
    if ddl.startswith("alter"):
        run_sql(pair.target_dsn, ddl)
    ok(pair, "resync")
    with psycopg.connect(pair.target_dsn) as blocker:
        blocker.execute("lock table credit.a in share mode")
        with spawn_cdc(pair, "run", env=ONE) as daemon:
            wait_until(lambda: waits_for_lock(pair.target_dsn))
            run_sql(pair.source_dsn, ddl)
            blocker.rollback()
            wait_for_copies(pair)
            daemon.wait_for_log("rewritten meanwhile")
            assert daemon.terminate() == 0, daemon.log()
    drain(pair)
    assert same_rows(pair) == {"a": 1, "b": 1 if ddl.startswith("alter") else 0}


def wait_for_copies(pair: Pair) -> None:
    """Wait until no copy is under way."""
    query = "select bool_and(completed_at is not null) from cdc.copy"
    wait_until(lambda: fetch(pair.target_dsn, query) == [True], 60)

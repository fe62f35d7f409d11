"""Tables copied anew after a gap, read meanwhile: as they were, or as they are to be."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from tests.databases import migrate, run_sql, wait_until
from tests.pair import Pair, same_rows
from tests.process import drain, run_cdc

SMALL = {"CDC_SNAPSHOT_CHUNK_BYTES": "8192", "CDC_SOURCE_ON_SLOT_LOST": "resync"}

SCHEMA = """
create schema credit;
create table credit.account (id int primary key, note text);
create table credit.entry (id int primary key, note text);
"""
ACCOUNTS = "insert into credit.account values (0, 'x')"
BOTH = """
insert into credit.account select n, 'x' from generate_series(1, 2000) n;
insert into credit.entry select n, 'x' from generate_series(1, 2000) n;
"""


def test_a_table_that_was_empty_before_the_gap(pair: Pair) -> None:
    """Of a transaction in the gap the target shows both tables' rows at once, or none."""
    migrate(pair, SCHEMA)
    run_sql(pair.source_dsn, ACCOUNTS)
    drain(pair)
    run_sql(pair.source_dsn, BOTH)
    wait_until(lambda: forgets(pair))
    with counting(pair) as seen:
        result = run_cdc(pair, "run", "--until-current", env=SMALL)
    assert result.returncode == 0, result.stderr
    assert same_rows(pair) == {"account": 2001, "entry": 2000}
    assert seen <= {(1, 0), (2001, 2000)}
    assert (1, 0) in seen


def forgets(pair: Pair) -> bool:
    """Let the slot go on without us, once its stream has ended."""
    try:
        run_sql(
            pair.source_dsn,
            "select pg_replication_slot_advance(%s, pg_current_wal_lsn())",
            pair.slot,
        )
    except psycopg.errors.ObjectInUse:
        return False
    return True


@contextmanager
def counting(pair: Pair) -> Iterator[set[tuple[int, int]]]:
    """Count the rows of both tables on the target, again and again until the block is left."""
    done, seen = threading.Event(), set[tuple[int, int]]()
    query = "select (select count(*) from credit.account), (select count(*) from credit.entry)"

    def count() -> None:
        with psycopg.connect(pair.target_dsn, autocommit=True) as target:
            while not done.wait(0.002):
                row = target.execute(query).fetchone()
                assert row is not None
                seen.add((int(row[0]), int(row[1])))

    reader = threading.Thread(target=count)
    reader.start()
    try:
        yield seen
    finally:
        done.set()
        reader.join()

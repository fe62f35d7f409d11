"""A pair's databases as a test asks and changes them, beside the daemon: SQL, and waiting for it.

Nothing here runs a command of cdc (that is tests.process) or asserts what a test is about; the
connection is a new one each time, so that it sees what is committed and holds nothing.
"""

import time
from collections.abc import Callable

import psycopg

from tests.pair import Pair


def run_sql(dsn: str, statements: str, *parameters: object) -> None:
    """Run statements in one transaction."""
    with psycopg.connect(dsn) as connection:
        connection.execute(statements, parameters or None)


def fetch(dsn: str, query: str, *parameters: object) -> list[object]:
    """Give the values of a query's rows, one after the other; True for a row without values."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(query, parameters or None).fetchall()
        return [value for row in rows for value in row or (True,)]


def wait_until(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    """Wait for a condition to hold."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not in {timeout_s} s"
        time.sleep(0.05)


def migrate(pair: Pair, schema: str) -> None:
    """Make tables on both sides, on the target first."""
    for dsn in (pair.target_dsn, pair.source_dsn):
        run_sql(dsn, schema)


def confirmed(pair: Pair) -> str:
    """Give what the slot was confirmed up to."""
    query = "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = %s"
    (lsn,) = fetch(pair.source_dsn, query, pair.slot)
    return str(lsn)


def checkpoint(pair: Pair) -> str:
    """Give what the target says that it holds."""
    query = "select lsn::text from cdc.checkpoint where slot = %s"
    (lsn,) = fetch(pair.target_dsn, query, pair.slot)
    return str(lsn)


def schema_publication(pair: Pair) -> str:
    """Give the statement that publishes the whole schema, tables to come included."""
    return f"create publication {pair.publication} for tables in schema credit"


def published(pair: Pair) -> list[object]:
    """Give the tables in the publication."""
    query = "select tablename from pg_publication_tables where pubname = %s order by 1"
    return fetch(pair.source_dsn, query, pair.publication)


def copied(pair: Pair) -> list[object]:
    """Give what the ledger says of copies."""
    return fetch(pair.target_dsn, "select detail from cdc.ledger where event = 'tables copied'")


def waits_for_lock(dsn: str) -> bool:
    """Tell whether a session of this database waits for a lock."""
    query = (
        "select pid from pg_stat_activity"
        " where datname = current_database() and wait_event_type = 'Lock'"
    )
    return bool(fetch(dsn, query))

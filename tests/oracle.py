"""The server's own logical replication beside the daemon: what it leaves is what is right.

A `Trio` is a source, the daemon's target, and a second database on the target's server that a
native subscription writes to. The same statements make the tables everywhere; then the source is
changed, both copies are brought up to date, and all three are compared, row for row.
"""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from tests.databases import schema_publication
from tests.pair import PINNED, Pair, execute
from tests.process import run_cdc

CATCH_UP_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Trio:
    """A pair, and the oracle's database."""

    pair: Pair
    oracle_dsn: str
    subscription: str

    def change(self, *statements: str) -> None:
        """Run statements in one transaction of the source."""
        run(self.pair.source_dsn, *statements)

    def commit_each(self, *statements: str) -> None:
        """Run each statement as a transaction of its own."""
        for statement in statements:
            run(self.pair.source_dsn, statement)

    def everywhere(self, *statements: str) -> None:
        """Run statements in one transaction of each of the three, the source last."""
        for dsn in (self.oracle_dsn, self.pair.target_dsn, self.pair.source_dsn):
            run(dsn, *statements)

    def compare(self, *, env: dict[str, str] | None = None) -> dict[str, int]:
        """Bring both copies up to date, assert that all three are equal, and count the rows."""
        result = run_cdc(self.pair, "run", "--until-current", env=env)
        assert result.returncode == 0, result.stderr
        self.wait_for_oracle()
        return self.assert_equal()

    def wait_for_oracle(self) -> None:
        """Wait until the subscription has confirmed all that the source has written."""
        deadline = time.monotonic() + CATCH_UP_TIMEOUT_S
        with psycopg.connect(self.pair.source_admin_dsn, autocommit=True) as source:
            row = source.execute(
                "select pg_logical_emit_message(true, 'test', 'end')::text"
            ).fetchone()
            assert row is not None
            while (
                source.execute(
                    "select 1 from pg_replication_slots"
                    " where slot_name = %s and confirmed_flush_lsn >= %s::pg_lsn",
                    (self.subscription, row[0]),
                ).fetchone()
                is None
            ):
                assert time.monotonic() < deadline, "the subscription does not catch up"
                time.sleep(0.02)

    def assert_equal(self) -> dict[str, int]:
        """Assert that the daemon's target and the oracle both hold the source's rows."""
        counts: dict[str, int] = {}
        for table in tables(self.pair.source_admin_dsn):
            source = rows(self.pair.source_admin_dsn, table)
            oracle = rows(self.oracle_dsn, table)
            target = rows(self.pair.target_admin_dsn, table)
            assert oracle == source, f"{table}: the oracle differs, so the test is wrong"
            assert target == source, (
                f"{table}: {sum((source - target).values())} rows missing or different"
            )
            counts[table] = source.total()
        return counts


@contextmanager
def make_trio(pair: Pair, *statements: str) -> Iterator[Trio]:
    """Make the tables of `statements` in schema credit everywhere, and start both copies."""
    oracle = f"{pair.slot}_native"
    execute(pair.target, f"create database {oracle}")
    trio = Trio(pair, pair.target.conninfo(oracle), oracle)
    try:
        for dsn in (pair.source_dsn, pair.target_dsn, trio.oracle_dsn):
            run(dsn, "create schema credit", *statements)
        if pair.plugin == "wal2json":  # the daemon makes no publication then
            run(pair.source_admin_dsn, schema_publication(pair))
        result = run_cdc(pair, "init")
        assert result.returncode == 0, result.stderr
        run(
            pair.source_admin_dsn,
            f"select pg_create_logical_replication_slot('{oracle}', 'pgoutput')",
        )
        with psycopg.connect(trio.oracle_dsn, autocommit=True) as connection:
            connection.execute(
                f"create subscription {oracle} connection '{pair.source_admin_dsn}'"
                f" publication {pair.publication}"
                f" with (copy_data = false, create_slot = false, slot_name = '{oracle}')".encode()
            )
        yield trio
    finally:
        _drop(pair, oracle)


def _drop(pair: Pair, oracle: str) -> None:
    with psycopg.connect(pair.target.conninfo(oracle), autocommit=True) as connection:
        found = connection.execute("select 1 from pg_subscription").fetchone()
        if found:
            connection.execute(f"alter subscription {oracle} disable".encode())
            connection.execute(f"alter subscription {oracle} set (slot_name = none)".encode())
            connection.execute(f"drop subscription {oracle}".encode())
    execute(pair.target, f"drop database {oracle} with (force)")


def run(dsn: str, *statements: str) -> None:
    """Run statements in one transaction."""
    with psycopg.connect(dsn) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def tables(dsn: str) -> list[str]:
    """Give the tables of schema credit, quoted; partitioned ones are read through their root."""
    with psycopg.connect(dsn) as connection:
        found = connection.execute(
            "select format('%I.%I', n.nspname, c.relname)"
            "  from pg_class c join pg_namespace n on n.oid = c.relnamespace"
            " where n.nspname = 'credit' and c.relkind in ('r', 'p') order by 1"
        ).fetchall()
    assert found, "no table in schema credit"
    return [name for (name,) in found]


def rows(dsn: str, table: str) -> Counter[str]:
    """Give the rows of a table as text, each with how often it is there."""
    with psycopg.connect(dsn, options=PINNED) as connection:
        found = connection.execute(f"select format('%s', t) from {table} t".encode()).fetchall()
    return Counter(row for (row,) in found)

"""The server's own logical replication beside the daemon: what it leaves is what is right.

A `Trio` is a source, the daemon's target, and a second database on the target's server that a
native subscription writes to. The same statements make the tables everywhere; then the source is
changed, both copies are brought up to date, and all three are compared, row for row.
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
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

    def on_copies(self, *statements: str) -> None:
        """Run statements on the daemon's target and on the oracle."""
        for dsn in (self.pair.target_dsn, self.oracle_dsn):
            run(dsn, *statements)

    def everywhere(self, *statements: str) -> None:
        """Run statements on both copies, then on the source: a migration."""
        self.on_copies(*statements)
        self.change(*statements)

    def compare(self, *, partial: bool = False, only: str | None = None) -> dict[str, int]:
        """Bring both copies up to date, assert that all three are equal, and count the rows.

        `partial`: the source publishes a part of its rows, so that only the copies are equal.
        `only`: a table that all three have.
        """
        result = run_cdc(self.pair, "run", "--until-current")
        assert result.returncode == 0, result.stderr
        self.wait_for_oracle()
        return self._assert_equal([only] if only else tables(self.oracle_dsn), partial=partial)

    def refresh_oracle(self) -> None:
        """Tell the subscription of tables that came; it takes none of their rows."""
        with psycopg.connect(self.oracle_dsn, autocommit=True) as oracle:
            refresh = f"alter subscription {self.subscription} refresh publication"
            oracle.execute(f"{refresh} with (copy_data = false)".encode())

    def wait_for_copy(self) -> None:
        """Wait until the subscription has copied all tables."""
        deadline = time.monotonic() + CATCH_UP_TIMEOUT_S
        with psycopg.connect(self.oracle_dsn, autocommit=True) as oracle:
            missing = "select 1 from pg_subscription_rel where srsubstate <> 'r'"
            while oracle.execute(missing).fetchone():
                assert time.monotonic() < deadline, "the subscription does not copy"
                time.sleep(0.05)

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

    def _assert_equal(self, names: list[str], *, partial: bool) -> dict[str, int]:
        """Assert that the daemon's target and the oracle both hold the source's rows."""
        counts: dict[str, int] = {}
        for table in names:
            oracle = rows(self.oracle_dsn, table)
            target = rows(self.pair.target_admin_dsn, table)
            if not partial:
                source = rows(self.pair.source_admin_dsn, table)
                assert oracle == source, f"{table}: the oracle differs, so the test is wrong"
            assert target == oracle, (
                f"{table}: {sum((oracle - target).values())} rows missing or different"
            )
            counts[table] = oracle.total()
        return counts


@contextmanager
def make_trio(
    pair: Pair,
    *statements: str,
    copies: Sequence[str] | None = None,
    publication: str | None = None,
    copy_data: bool = False,
) -> Iterator[Trio]:
    """Make the tables of `statements` in schema credit everywhere, and start both copies.

    `copies` are the tables' definitions on the copies, where they differ; `publication` is what
    stands behind CREATE PUBLICATION name, where it is not for `cdc init` to choose; `copy_data` has
    the oracle take the rows that are there by then, as the daemon does.
    """
    oracle = f"{pair.slot}_native"
    execute(pair.target, f"create database {oracle}")
    trio = Trio(pair, pair.target.conninfo(oracle), oracle)
    try:
        run(pair.source_dsn, "create schema credit", *statements)
        trio.on_copies("create schema credit", *(statements if copies is None else copies))
        if publication is not None:
            run(pair.source_admin_dsn, f"create publication {pair.publication} {publication}")
        elif pair.plugin == "wal2json":  # the daemon makes no publication then
            run(pair.source_admin_dsn, schema_publication(pair))
        result = run_cdc(pair, "init")
        assert result.returncode == 0, result.stderr
        slot = "" if copy_data else f", create_slot = false, slot_name = '{oracle}'"
        if not copy_data:
            run(
                pair.source_admin_dsn,
                f"select pg_create_logical_replication_slot('{oracle}', 'pgoutput')",
            )
        with psycopg.connect(trio.oracle_dsn, autocommit=True) as connection:
            connection.execute(
                f"create subscription {oracle} connection '{pair.source_admin_dsn}'"
                f" publication {pair.publication}"
                f" with (copy_data = {copy_data}{slot})".encode()
            )
        if copy_data:
            trio.wait_for_copy()
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

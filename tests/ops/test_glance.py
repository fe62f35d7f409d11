"""What the daemon knows of both databases without asking them: what the page is made of."""

import json
import time

import msgspec
import psycopg

from cdc.lsn import parse_lsn
from tests.accounts import BOOK_ROWS, BOOKS, INSERT, SCHEMA
from tests.databases import fetch, migrate, run_sql, wait_until
from tests.pair import Pair
from tests.process import ok, run_cdc
from tests.serving import get, serving

TABLES = """
create schema credit;
create table credit.counted (id int primary key);
create table credit.fresh (id int primary key);
create table credit.nothing (id int primary key);
create table credit.parted (id int primary key) partition by range (id);
create table credit.part_1 partition of credit.parted for values from (0) to (100);
create table credit.part_2 partition of credit.parted for values from (100) to (200);
alter table credit.fresh set (autovacuum_enabled = off);
alter table credit.nothing set (autovacuum_enabled = off);
"""
FILL = """
insert into credit.counted select generate_series(1, 500);
insert into credit.parted select generate_series(0, 199);
"""

QUARANTINE = {"CDC_APPLY_ON_ERROR": "quarantine"}
REFUSING = "alter table credit.account add constraint small check (balance < 1000)"
GAP = "insert into cdc.ledger (slot, event, from_lsn, detail) values (%s, 'gap', '0/1', 'a gap')"


class Table(msgspec.Struct):
    """What is told of a table, as far as it is looked at here."""

    schema: str
    name: str
    rows: int | None
    received: int


class TargetTold(msgspec.Struct, rename="camel"):
    """What is told of the target, alike."""

    quarantined_rows: int
    open_entries: int | None


class VerificationTold(msgspec.Struct):
    """What is told of the last verification."""

    lsn: str
    at: float
    tables: int
    rows: int
    only: list[str] | None
    equal: bool
    differing: list[str]


class Told(msgspec.Struct):
    """The answer, alike."""

    tables: list[Table]
    target: TargetTold
    verification: VerificationTold | None


def told(port: int) -> Told:
    """Give what a daemon tells."""
    return msgspec.json.decode(get(port, "/api/glance").body, type=Told)


def test_rows_are_what_the_source_s_statistics_say(pair: Pair) -> None:
    """Of all partitions together; counted as written where ANALYZE never came; else unknown."""
    migrate(pair, TABLES)
    run_sql(pair.source_dsn, FILL)
    with psycopg.connect(pair.source_dsn, autocommit=True) as source:
        source.execute("analyze credit.counted, credit.parted")
        source.execute("insert into credit.fresh select generate_series(1, 7)")
    with serving(pair) as (_, port):
        rows = {table.name: table.rows for table in told(port).tables}
    # Each partition is published by itself.
    assert rows == {"counted": 500, "fresh": 7, "nothing": None, "part_1": 100, "part_2": 100}


def test_a_partitioned_table_has_the_rows_of_its_partitions(pair: Pair) -> None:
    """Published as one table, it counts none of them twice."""
    migrate(pair, TABLES)
    run_sql(pair.source_dsn, FILL)
    run_sql(
        pair.source_dsn,
        f"create publication {pair.publication} for table credit.counted,"
        " credit.fresh, credit.nothing, credit.parted"
        " with (publish_via_partition_root = true)",
    )
    with psycopg.connect(pair.source_dsn, autocommit=True) as source:
        source.execute("analyze credit.parted")
    with serving(pair) as (_, port):
        rows = {table.name: table.rows for table in told(port).tables}
    assert rows["parted"] == 200


def test_what_waits_is_known_from_the_start(pair: Pair) -> None:
    """The quarantine and the ledger were read when the session was opened, before any change."""
    migrate(pair, SCHEMA)
    ok(pair, "init")
    run_sql(pair.target_dsn, REFUSING)
    run_sql(pair.target_dsn, GAP, pair.slot)
    run_sql(pair.source_dsn, "insert into credit.account values (1, 5000), (2, 5000), (3, 3)")
    with serving(pair, QUARANTINE) as (_, port):
        wait_until(lambda: told(port).target.quarantined_rows == 2)
    with serving(pair, QUARANTINE) as (_, port):
        target = told(port).target
        assert (target.quarantined_rows, target.open_entries) == (2, 1)


def test_what_was_verified_is_known_from_the_start(pair: Pair) -> None:
    """What `cdc verify` prints is told, and by the next daemon too; nothing is before the first."""
    migrate(pair, BOOKS)
    run_sql(pair.source_dsn, BOOK_ROWS)
    ok(pair, "init")
    with serving(pair) as (_, port):
        assert told(port).verification is None
        found = json.loads(ok(pair, "verify", "--json").stdout)
        wait_until(lambda: told(port).verification is not None)
        run_sql(pair.target_dsn, "delete from credit.entry where id = 1")
        assert run_cdc(pair, "verify", "credit.entry", "credit.account").returncode == 1
        wait_until(lambda: verified(port).differing == ["credit.entry"])
        ok(pair, "verify", "credit.account")
        wait_until(lambda: verified(port).only == ["credit.account"])
        last = verified(port)
    assert (last.tables, last.rows, last.equal, last.differing) == (1, 5, True, ["credit.entry"])
    assert parse_lsn(last.lsn) > parse_lsn(found["lsn"])
    assert abs(last.at - time.time()) < 60
    with serving(pair) as (_, port):
        assert verified(port) == last


def verified(port: int) -> VerificationTold:
    """Give what a daemon tells of the last verification."""
    found = told(port).verification
    assert found is not None
    return found


def test_to_look_at_the_page_asks_the_target_nothing(pair: Pair) -> None:
    """A target that was left alone is left alone, however often somebody looks."""
    migrate(pair, SCHEMA)
    with serving(pair, {"CDC_TARGET_IDLE_DISCONNECT": "1"}) as (_, port):
        run_sql(pair.source_dsn, INSERT, 1, 5)
        wait_until(lambda: sum(table.received for table in told(port).tables) == 5)
        sessions = (
            "select from pg_stat_activity where application_name like 'cdc%%' and datname = %s"
        )
        wait_until(lambda: fetch(pair.target_admin_dsn, sessions, pair.slot) == [])
        for _ in range(20):
            assert get(port, "/").status == 200
            assert told(port).target.quarantined_rows == 0
            assert fetch(pair.target_admin_dsn, sessions, pair.slot) == []

"""New tables: copied, published and followed; at the start and while the daemon runs."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from tests.databases import (
    copied,
    fetch,
    migrate,
    published,
    run_sql,
    schema_publication,
    wait_until,
)
from tests.pair import Pair, same_rows
from tests.process import Daemon, drain, ok, run_cdc, spawn_cdc, streaming

SCHEMA = """
create schema credit;
create table credit.account (id int primary key, balance int not null);
"""
NEW_TABLE = "create table credit.entry (id int primary key, note text);"
CHILD = "create table credit.entry (id int primary key, account int references credit.account);"
FAMILY = """
create table credit.branch (id int primary key);
create table credit.agent (id int primary key, branch int references credit.branch);
"""


@pytest.fixture
def tiny(pair: Pair) -> Pair:
    """Two databases with one empty table."""
    migrate(pair, SCHEMA)
    return pair


def test_a_new_table_is_adopted_at_the_start(tiny: Pair) -> None:
    """Its rows are copied, those written before it was published too, and then it is followed."""
    ok(tiny, "init")
    migrate(tiny, NEW_TABLE)
    run_sql(tiny.source_dsn, "insert into credit.entry select n, 'x' from generate_series(1, 9) n")
    run_sql(tiny.source_dsn, "insert into credit.account values (1, 1)")
    drain(tiny)
    assert same_rows(tiny) == {"account": 1, "entry": 9}
    assert copied(tiny)[-1] == "9 rows: credit.entry"
    run_sql(
        tiny.source_dsn, "update credit.entry set note = 'y'; insert into credit.entry values (0)"
    )
    drain(tiny)
    assert same_rows(tiny) == {"account": 1, "entry": 10}
    assert published(tiny) == ["account", "entry"]


def test_a_new_table_is_adopted_while_the_daemon_runs(tiny: Pair) -> None:
    """Under writes: each row is either in the copy or in the stream, never in both or neither."""
    with streaming(tiny) as daemon:
        run_sql(tiny.source_dsn, "insert into credit.account values (1, 1)")
        migrate(tiny, NEW_TABLE)
        with writing(tiny):
            time.sleep(0.3)
            publish(tiny)
            wait_until(lambda: "credit.entry" in str(copied(tiny)))
            time.sleep(0.3)
        run_sql(tiny.source_dsn, "insert into credit.entry values (-1)")
        ended(daemon, lambda: bool(fetch(tiny.target_dsn, "select from credit.entry where id < 0")))
        assert daemon.terminate() == 0, daemon.log()
    same_rows(tiny)


def test_new_rows_that_refer_to_rows_still_in_the_stream(tiny: Pair) -> None:
    """A new table may refer to rows that the target does not have yet."""
    ok(tiny, "init")
    run_sql(tiny.source_dsn, "insert into credit.account values (1, 1)")
    migrate(tiny, CHILD)
    run_sql(tiny.source_dsn, "insert into credit.entry values (1, 1)")
    drain(tiny)
    assert same_rows(tiny) == {"account": 1, "entry": 1}
    keys = "select conname from pg_constraint where conrelid = 'credit.entry'::regclass"
    assert "entry_account_fkey" in fetch(tiny.target_dsn, keys)


def test_new_tables_that_refer_to_each_other(tiny: Pair) -> None:
    """Several new tables are adopted, in whatever order."""
    ok(tiny, "init")
    migrate(tiny, FAMILY)
    run_sql(tiny.source_dsn, "insert into credit.branch values (1)")
    run_sql(tiny.source_dsn, "insert into credit.agent values (1, 1)")
    drain(tiny)
    assert same_rows(tiny) == {"account": 0, "agent": 1, "branch": 1}


def test_a_busy_new_table_does_not_stop_the_stream(tiny: Pair) -> None:
    """While a transaction keeps a new table from being copied, the other tables are followed."""
    ok(tiny, "init")
    migrate(tiny, NEW_TABLE)
    with psycopg.connect(tiny.source_dsn) as busy:
        busy.execute("insert into credit.entry values (1)")
        with spawn_cdc(tiny, "run") as daemon:
            run_sql(tiny.source_dsn, "insert into credit.account values (1, 1)")
            ended(daemon, lambda: bool(fetch(tiny.target_dsn, "select id from credit.account")))
            assert daemon.terminate() == 0, daemon.log()
        assert fetch(tiny.target_dsn, "select id from credit.account") == [1]
    drain(tiny)
    assert same_rows(tiny) == {"account": 1, "entry": 1}


def test_a_new_table_that_the_target_lacks(tiny: Pair) -> None:
    """An error that names it; once the target has it, its rows are copied."""
    ok(tiny, "init")
    run_sql(tiny.source_dsn, NEW_TABLE)
    run_sql(tiny.source_dsn, "insert into credit.entry values (1, 'x')")
    for _ in range(2):
        result = run_cdc(tiny, "run", "--until-current")
        assert result.returncode == 78
        assert "credit.entry" in result.stderr
    run_sql(tiny.target_dsn, NEW_TABLE)
    drain(tiny)
    assert same_rows(tiny) == {"account": 0, "entry": 1}


def test_a_new_table_that_the_target_lacks_waits_where_changes_may(tiny: Pair) -> None:
    """With a quarantine the others go on; nothing of the table is put there: it will be copied."""
    ok(tiny, "init")
    run_sql(tiny.source_dsn, NEW_TABLE)
    run_sql(tiny.source_dsn, "insert into credit.entry values (1, 'x')")
    run_sql(tiny.source_dsn, "insert into credit.account values (1, 1)")
    env = {"CDC_APPLY_ON_ERROR": "quarantine"}
    assert run_cdc(tiny, "run", "--until-current", env=env).returncode == 0
    assert fetch(tiny.target_dsn, "select id from credit.account") == [1]
    assert fetch(tiny.target_dsn, "select from cdc.quarantine") == []
    run_sql(tiny.target_dsn, NEW_TABLE)
    assert run_cdc(tiny, "run", "--until-current", env=env).returncode == 0
    assert same_rows(tiny) == {"account": 1, "entry": 1}


def test_a_new_table_with_rows_of_somebody_else(tiny: Pair) -> None:
    """Rows that are on the target already are not taken for ours, and stay until one says so."""
    ok(tiny, "init")
    migrate(tiny, NEW_TABLE)
    run_sql(tiny.target_dsn, "insert into credit.entry values (7)")
    result = run_cdc(tiny, "run", "--until-current")
    assert result.returncode == 78
    assert "has rows" in result.stderr
    assert fetch(tiny.target_dsn, "select id from credit.entry") == [7]
    ok(tiny, "resync", "credit.entry")
    drain(tiny)
    assert same_rows(tiny) == {"account": 0, "entry": 0}


@pytest.mark.parametrize(
    "enters",
    [
        "alter table public.entry set schema credit",
        "alter table public.entry set schema credit; insert into credit.entry values (0)",
    ],
)
def test_a_table_that_comes_into_the_schema_with_rows(tiny: Pair, enters: str) -> None:
    """Published as a whole, the schema brings its changes from then on; its rows are copied."""
    run_sql(tiny.source_admin_dsn, schema_publication(tiny))
    ok(tiny, "init")
    create = "create table public.entry (id int primary key, note text)"
    run_sql(tiny.source_admin_dsn, create)
    run_sql(tiny.source_admin_dsn, "alter table public.entry owner to app_source")
    run_sql(
        tiny.source_admin_dsn, "insert into public.entry select n, 'x' from generate_series(1, 9) n"
    )
    run_sql(tiny.target_dsn, NEW_TABLE)
    with streaming(tiny) as daemon:
        run_sql(tiny.source_admin_dsn, enters)
        run_sql(tiny.source_dsn, "update credit.entry set note = 'z' where id = 3")
        wait_until(lambda: "credit.entry" in str(copied(tiny)))
        assert daemon.terminate() == 0
    drain(tiny)
    same_rows(tiny)


def test_a_table_that_is_logged_from_now_on(tiny: Pair) -> None:
    """Of an unlogged table nothing was sent; when it becomes a logged one its rows are copied."""
    run_sql(tiny.source_admin_dsn, schema_publication(tiny))
    ok(tiny, "init")
    run_sql(tiny.target_dsn, NEW_TABLE)
    run_sql(tiny.source_dsn, NEW_TABLE.replace("create table", "create unlogged table"))
    run_sql(tiny.source_dsn, "insert into credit.entry select n, 'x' from generate_series(1, 9) n")
    drain(tiny)
    run_sql(tiny.source_dsn, "alter table credit.entry set logged")
    drain(tiny)
    assert same_rows(tiny) == {"account": 0, "entry": 9}


def test_a_table_that_is_dropped_and_created_again(tiny: Pair) -> None:
    """The new one, of the same name, is in no list yet: its rows take the place of the old ones."""
    migrate(tiny, NEW_TABLE)
    run_sql(tiny.source_dsn, "insert into credit.entry values (1), (2)")
    ok(tiny, "init")
    run_sql(tiny.source_dsn, f"drop table credit.entry; {NEW_TABLE}")
    run_sql(tiny.source_dsn, "insert into credit.entry values (2, 'new'), (3, 'new')")
    drain(tiny)
    assert same_rows(tiny) == {"account": 0, "entry": 2}


def test_a_table_that_was_not_published_for_a_while(tiny: Pair) -> None:
    """What was written meanwhile is in no stream: the table is copied anew."""
    migrate(tiny, NEW_TABLE)
    run_sql(tiny.source_dsn, "insert into credit.entry values (1), (2)")
    ok(tiny, "init")
    run_sql(tiny.source_dsn, f"alter publication {tiny.publication} drop table credit.entry")
    run_sql(tiny.source_dsn, "insert into credit.entry values (3)")
    run_sql(tiny.source_dsn, "delete from credit.entry where id = 1")
    drain(tiny)
    assert same_rows(tiny) == {"account": 0, "entry": 2}
    events = "select from cdc.ledger where event = 'table published again'"
    assert fetch(tiny.target_dsn, events) == [True]


def publish(pair: Pair) -> None:
    """Do what a daemon does now and then, and write to the table, so that it hears of it."""
    run_sql(pair.source_dsn, f"alter publication {pair.publication} add table credit.entry")


@contextmanager
def writing(pair: Pair) -> Iterator[None]:
    """Insert, update and delete rows of the new table until the block is left."""
    done = threading.Event()

    def write() -> None:
        with psycopg.connect(pair.source_dsn, autocommit=True) as source:
            for n in range(1, 1_000_000):
                source.execute("insert into credit.entry values (%s, 'x')", (n,))
                source.execute("update credit.entry set note = 'y' where id = %s", (n - 5,))
                source.execute("delete from credit.entry where id = %s and id %% 7 = 0", (n - 9,))
                if done.is_set():
                    return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        done.set()
        writer.join()


def ended(daemon: Daemon, condition: Callable[[], bool]) -> None:
    """Wait for a condition to hold; stop waiting where the daemon has ended."""
    wait_until(lambda: daemon.process.poll() is not None or condition())

"""New tables: copied, published and followed; at the start and while the daemon runs."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from cdc.errors import CheckFailed
from cdc.postgres.session import connect
from cdc.settings import Settings
from cdc.sync.adopt import adopt_missing_tables
from tests.databases import adopted, fetch, migrate, published, run_sql, wait_until
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
    assert adopted(tiny) == ["credit.entry: 9 rows copied"]
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
            assert asyncio.run(adopt(tiny)) == ["credit.entry"]
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
    drain(tiny)
    assert same_rows(tiny) == {"account": 1, "entry": 1}


def test_new_tables_that_refer_to_each_other(tiny: Pair) -> None:
    """Several new tables are adopted in the order of their foreign keys."""
    ok(tiny, "init")
    migrate(tiny, FAMILY)
    run_sql(tiny.source_dsn, "insert into credit.branch values (1)")
    run_sql(tiny.source_dsn, "insert into credit.agent values (1, 1)")
    drain(tiny)
    assert same_rows(tiny) == {"account": 0, "agent": 1, "branch": 1}


def test_a_busy_new_table_does_not_stop_the_stream(tiny: Pair) -> None:
    """While a transaction keeps a new table from being adopted, the other tables are followed."""
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


def test_an_adoption_that_was_cut_off_begins_anew(tiny: Pair) -> None:
    """Copied and noted, but not published any more: what the copy left is replaced."""
    ok(tiny, "init")
    migrate(tiny, NEW_TABLE)
    run_sql(tiny.source_dsn, "insert into credit.entry values (1, 'x'), (2, 'x')")
    asyncio.run(adopt(tiny))
    run_sql(tiny.source_dsn, f"alter publication {tiny.publication} drop table credit.entry")
    run_sql(tiny.source_dsn, "update credit.entry set id = 3, note = 'y' where id = 2")
    assert asyncio.run(adopt(tiny)) == ["credit.entry"]
    assert same_rows(tiny) == {"account": 0, "entry": 2}


def test_a_new_table_that_the_target_lacks(tiny: Pair) -> None:
    """At the start and while the daemon runs: an error that names it, and nothing is published."""
    ok(tiny, "init")
    run_sql(tiny.source_dsn, NEW_TABLE)
    result = run_cdc(tiny, "run", "--until-current")
    assert result.returncode == 78
    assert "credit.entry" in result.stderr
    with pytest.raises(CheckFailed, match=r"credit\.entry") as refused:
        asyncio.run(adopt(tiny))
    assert "credit.entry" in refused.value.hint
    assert published(tiny) == ["account"]


def test_a_new_table_with_rows_of_somebody_else(tiny: Pair) -> None:
    """Rows that are on the target already are not taken for ours, and stay."""
    ok(tiny, "init")
    migrate(tiny, NEW_TABLE)
    run_sql(tiny.target_dsn, "insert into credit.entry values (7)")
    with pytest.raises(CheckFailed, match="has rows"):
        asyncio.run(adopt(tiny))
    assert published(tiny) == ["account"]
    assert fetch(tiny.target_dsn, "select id from credit.entry") == [7]


async def adopt(pair: Pair) -> list[str]:
    """Do once what a daemon does now and then."""
    settings = Settings.model_validate(
        {
            "source": {
                "dsn": pair.source_dsn,
                "slot": pair.slot,
                "publication": pair.publication,
            },
            "target": {"dsn": pair.target_dsn},
        }
    )
    async with await connect(pair.source_dsn) as source:
        return await adopt_missing_tables(source, settings)


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

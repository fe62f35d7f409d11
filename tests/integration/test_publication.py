"""The publication: made where it is missing, used as it is where it is there, kept complete."""

import asyncio
import subprocess
import sys
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
from tests.pair import Pair, same_rows
from tests.process import Daemon, environment, run_cdc, spawn_cdc
from tests.servers import Versions

STREAMING = '"message":"streaming"'

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


def test_a_plain_owner_gets_a_list_of_tables(tiny: Pair) -> None:
    """Without superuser, `init` makes a publication of the tables that there are."""
    migrate(tiny, NEW_TABLE)
    init(tiny)
    assert published(tiny) == ["account", "entry"]
    assert fetch(tiny.source_dsn, "select from pg_publication_namespace") == []


def test_a_publication_of_schemas_is_used_as_it_is(tiny: Pair) -> None:
    """Made by an administrator, it is left alone, and tables made later are in it by themselves."""
    run_sql(tiny.source_admin_dsn, schema_publication(tiny))
    init(tiny)
    migrate(tiny, NEW_TABLE)
    run_sql(tiny.source_dsn, "insert into credit.entry values (1, 'streamed')")
    drain(tiny)
    assert same_rows(tiny) == {"account": 0, "entry": 1}
    assert fetch(
        tiny.source_dsn,
        "select pubname from pg_publication p, pg_roles r where r.oid = pubowner and rolsuper",
    ) == [tiny.publication]
    assert fetch(tiny.source_dsn, "select from pg_publication_rel") == []
    assert adopted(tiny) == []


def test_a_new_table_is_adopted_at_the_start(tiny: Pair) -> None:
    """Its rows are copied, those written before it was published too, and then it is followed."""
    init(tiny)
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
    with spawn_cdc(tiny, "run") as daemon:
        daemon.wait_for_log(STREAMING)
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
    init(tiny)
    run_sql(tiny.source_dsn, "insert into credit.account values (1, 1)")
    migrate(tiny, CHILD)
    run_sql(tiny.source_dsn, "insert into credit.entry values (1, 1)")
    drain(tiny)
    drain(tiny)
    assert same_rows(tiny) == {"account": 1, "entry": 1}


def test_new_tables_that_refer_to_each_other(tiny: Pair) -> None:
    """Several new tables are adopted in the order of their foreign keys."""
    init(tiny)
    migrate(tiny, FAMILY)
    run_sql(tiny.source_dsn, "insert into credit.branch values (1)")
    run_sql(tiny.source_dsn, "insert into credit.agent values (1, 1)")
    drain(tiny)
    assert same_rows(tiny) == {"account": 0, "agent": 1, "branch": 1}


def test_a_busy_new_table_does_not_stop_the_stream(tiny: Pair) -> None:
    """While a transaction keeps a new table from being adopted, the other tables are followed."""
    init(tiny)
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
    init(tiny)
    migrate(tiny, NEW_TABLE)
    run_sql(tiny.source_dsn, "insert into credit.entry values (1, 'x'), (2, 'x')")
    asyncio.run(adopt(tiny))
    run_sql(tiny.source_dsn, f"alter publication {tiny.publication} drop table credit.entry")
    run_sql(tiny.source_dsn, "update credit.entry set id = 3, note = 'y' where id = 2")
    assert asyncio.run(adopt(tiny)) == ["credit.entry"]
    assert same_rows(tiny) == {"account": 0, "entry": 2}


def test_a_new_table_that_the_target_lacks(tiny: Pair) -> None:
    """At the start and while the daemon runs: an error that names it, and nothing is published."""
    init(tiny)
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
    init(tiny)
    migrate(tiny, NEW_TABLE)
    run_sql(tiny.target_dsn, "insert into credit.entry values (7)")
    with pytest.raises(CheckFailed, match="has rows"):
        asyncio.run(adopt(tiny))
    assert published(tiny) == ["account"]
    assert fetch(tiny.target_dsn, "select id from credit.entry") == [7]


@pytest.mark.parametrize("versions", [Versions(15, 15), Versions(18, 18)], indirect=True, ids=str)
def test_a_publication_dropped_while_streaming(tiny: Pair) -> None:
    """The daemon halts: what it does not receive any more must not be confirmed as copied.

    From PostgreSQL 18 on the server goes on without an error, and leaves the changes out.
    """
    init(tiny)
    watchful = (
        "import cdc.daemon; cdc.daemon.ADOPT_INTERVAL_S = 0.5; from cdc.cli import main; main()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", watchful, "run"],
        env=environment(tiny),
        stderr=subprocess.PIPE,
        text=True,
    ) as daemon:
        try:
            wait_until(lambda: bool(fetch(tiny.source_dsn, ACTIVE, tiny.slot)))
            run_sql(tiny.source_dsn, "insert into credit.account values (1, 1)")
            wait_until(lambda: bool(fetch(tiny.target_dsn, "select id from credit.account")))
            run_sql(tiny.source_dsn, f"drop publication {tiny.publication}")
            run_sql(tiny.source_dsn, "insert into credit.account values (2, 2)")
            _, said = daemon.communicate(timeout=10)
        finally:
            daemon.kill()
    assert daemon.returncode == 78
    assert tiny.publication in said
    assert run_cdc(tiny, "run", "--until-current").returncode == 78
    assert fetch(tiny.target_dsn, "select id from credit.account") == [1]


def test_part_of_a_table_is_published(tiny: Pair) -> None:
    """Snapshot and stream hold the published columns of the published rows, and no others."""
    table = "create table credit.entry (id int primary key, note text, hidden text default 'own');"
    migrate(tiny, table)
    write = "insert into credit.entry select n, 'x', 'secret' from generate_series(%s, %s) n"
    run_sql(tiny.source_dsn, write % (1, 10))
    run_sql(
        tiny.source_dsn,
        f"create publication {tiny.publication} for table credit.account,"
        " credit.entry (id, note) where (id % 2 = 0)",
    )
    init(tiny)
    part = "select id from credit.entry where note = 'x' and hidden = 'own' order by id"
    assert fetch(tiny.target_dsn, part) == [2, 4, 6, 8, 10]
    run_sql(tiny.source_dsn, write % (11, 14))
    # Out of the filter, and into it.
    run_sql(tiny.source_dsn, "update credit.entry set id = 21 where id = 2")
    run_sql(tiny.source_dsn, "update credit.entry set id = 22 where id = 1")
    run_sql(tiny.source_dsn, "update credit.entry set hidden = 'other' where id = 4")
    drain(tiny)
    assert fetch(tiny.target_dsn, part) == [4, 6, 8, 10, 12, 14, 22]
    assert fetch(tiny.target_dsn, "select id from credit.entry order by id") == fetch(
        tiny.target_dsn, part
    )


ACTIVE = "select 1 from pg_replication_slots where active and slot_name = %s"


def migrate(pair: Pair, schema: str) -> None:
    """Make tables on both sides, on the target first."""
    for dsn in (pair.target_dsn, pair.source_dsn):
        run_sql(dsn, schema)


def init(pair: Pair) -> None:
    """Make the pair ready to stream."""
    result = run_cdc(pair, "init")
    assert result.returncode == 0, result.stderr


def drain(pair: Pair) -> None:
    """Bring the target up to date."""
    result = run_cdc(pair, "run", "--until-current")
    assert result.returncode == 0, result.stderr


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


def schema_publication(pair: Pair) -> str:
    """Give the statement that publishes the whole schema, tables to come included."""
    return f"create publication {pair.publication} for tables in schema credit"


def published(pair: Pair) -> list[object]:
    """Give the tables in the publication."""
    query = "select tablename from pg_publication_tables where pubname = %s order by 1"
    return fetch(pair.source_dsn, query, pair.publication)


def adopted(pair: Pair) -> list[object]:
    """Give what the ledger says of adoptions."""
    return fetch(pair.target_dsn, "select detail from cdc.ledger where event = 'table adopted'")


def run_sql(dsn: str, statements: str) -> None:
    """Run statements in one transaction."""
    with psycopg.connect(dsn) as connection:
        connection.execute(statements)


def fetch(dsn: str, query: str, *parameters: object) -> list[object]:
    """Give the values of a query's rows, one after the other; True for a row without values."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(query, parameters or None).fetchall()
        return [value for row in rows for value in row or (True,)]


def wait_until(condition: Callable[[], bool], timeout_s: float = 15) -> None:
    """Wait for a condition to hold."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not in {timeout_s} s"
        time.sleep(0.05)


def ended(daemon: Daemon, condition: Callable[[], bool]) -> None:
    """Wait for a condition to hold; stop waiting where the daemon has ended."""
    wait_until(lambda: daemon.process.poll() is not None or condition())

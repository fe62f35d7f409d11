"""Each bug that was found, as the smallest case that shows it. Never removed."""

import threading

import psycopg
from psycopg import Connection

from cdc.postgres.catalog_reader import load_catalog
from cdc.postgres.session import connect, conninfo
from cdc.source.chunks import Cut, load_sizes, plan_chunks
from tests.databases import fetch, run_sql, wait_until
from tests.pair import Pair, same_rows
from tests.process import run_cdc, spawn_cdc, streaming
from tests.servers import on_every_version
from tests.serving import get, serving


def test_identity_of_a_row_deleted_and_inserted_again(pair: Pair) -> None:
    """GENERATED ALWAYS: the row of the same key has a new identity value, on the target too.

    An UPDATE may not set such a column, so that the value before stayed.
    """
    prepare(
        pair,
        "create table credit.t (id int primary key, n int generated always as identity, v text)",
        "insert into credit.t (id, v) values (1, 'a'), (2, 'b')",
    )
    with psycopg.connect(pair.source_dsn) as source:
        source.execute("delete from credit.t where id = 1")
        source.execute("insert into credit.t (id, v) values (1, 'again')")
        source.execute("update credit.t set n = default where id = 2")
    drain(pair)


def test_primary_key_in_another_order_than_the_columns(pair: Pair) -> None:
    """A key (b, a) of a table (a, b) is found on the target: the order of columns is no matter."""
    prepare(
        pair,
        "create table credit.t (a int, b int, v text, primary key (b, a))",
        "insert into credit.t values (1, 2, 'x'), (2, 1, 'y')",
    )
    with psycopg.connect(pair.source_dsn) as source:
        source.execute("update credit.t set v = 'z' where a = 1")
        source.execute("update credit.t set a = 3 where a = 2")
        source.execute("delete from credit.t where a = 1")
    drain(pair)


def test_a_table_dropped_while_its_copy_was_asked_for(pair: Pair) -> None:
    """The wish ends with the table: a command with an end comes to it, and nothing is copied.

    The copier went through round after round, sixty a second, and never ended.
    """
    both = "create table credit.a (id int primary key); create table credit.b (id int primary key)"
    prepare(pair, both, "insert into credit.a values (1)")
    assert run_cdc(pair, "resync", "credit.b").returncode == 0
    for dsn in (pair.source_dsn, pair.target_dsn):
        run_sql(dsn, "drop table credit.b")
    result = run_cdc(pair, "run", "--until-current", timeout_s=30)
    assert result.returncode == 0, result.stderr
    assert same_rows(pair) == {"a": 1}


def test_told_to_stop_while_a_new_slot_waits(pair: Pair) -> None:
    """An old transaction on the source holds up the making of a slot: SIGTERM ends that too."""
    prepare(pair, "create table credit.a (id int primary key)", "insert into credit.a values (1)")
    run_sql(pair.source_dsn, "select pg_drop_replication_slot(%s)", pair.slot)
    with psycopg.connect(pair.source_dsn) as writer:
        writer.execute("insert into credit.a values (2)")
        env = {"CDC_SOURCE_ON_SLOT_LOST": "resync"}
        with spawn_cdc(pair, "run", env=env) as daemon:
            daemon.wait_for_log("a slot is created, which waits")
            assert daemon.terminate() == 0, daemon.log()


def test_a_table_of_the_source_that_is_locked(pair: Pair) -> None:
    """Who has one for himself (VACUUM FULL, ALTER TABLE) holds up neither stream nor heartbeat.

    A new stream began with a look at all tables, which waited for the lock; and each half minute
    such a look stopped the heartbeat and the WAL budget for as long.
    """
    both = "create table credit.a (id int primary key); create table credit.b (id int primary key)"
    prepare(pair, both)
    with serving(pair) as (daemon, port), psycopg.connect(pair.source_dsn) as locking:
        locking.execute("lock table credit.a")
        slot = "from pg_replication_slots where slot_name = %s"
        fetch(pair.source_admin_dsn, f"select pg_terminate_backend(active_pid) {slot}", pair.slot)
        daemon.wait_for_log("trying again")
        run_sql(pair.source_dsn, "insert into credit.b values (1)")
        wait_until(lambda: fetch(pair.target_dsn, "select id from credit.b") == [1])
        # No heartbeat of this stream, and nobody would know.
        health = "/api/credit/health/databases"
        wait_until(lambda: get(port, health).json()["lagSeconds"] == 0)
        late = "create table credit.late as select 1 as id"
        run_sql(pair.target_dsn, f"{late} where false")
        run_sql(pair.source_dsn, f"{late}; alter table credit.late replica identity full")
        daemon.wait_for_log("looking for new ones later")
        locking.rollback()
        wait_until(lambda: fetch(pair.target_dsn, "select id from credit.late") == [1])
        assert daemon.terminate() == 0


def test_a_table_of_the_target_that_is_locked(pair: Pair) -> None:
    """A new session there waits for nobody who has another table than the one that is written.

    It asked for the sizes of all of them, which waits for each lock, and never used them.
    """
    both = "create table credit.a (id int primary key); create table credit.b (id int primary key)"
    prepare(pair, both)
    with streaming(pair, {"CDC_TARGET_IDLE_DISCONNECT": "0.1"}) as daemon:
        run_sql(pair.source_dsn, "insert into credit.b values (1)")
        daemon.wait_for_log("closing the idle session")
        with psycopg.connect(pair.target_dsn) as locking:
            locking.execute("lock table credit.a")
            run_sql(pair.source_dsn, "insert into credit.b values (2)")
            wait_until(lambda: fetch(pair.target_dsn, "select count(*) from credit.b") == [2])
        assert daemon.terminate() == 0, daemon.log()


def test_table_and_column_made_while_the_daemon_runs(pair: Pair) -> None:
    """What a migration adds on both sides, target first, is written without a restart."""
    with psycopg.connect(pair.source_admin_dsn) as source:
        source.execute("create schema credit authorization app_source")
        source.execute(f"create publication {pair.publication} for tables in schema credit")
    with psycopg.connect(pair.target_dsn) as target:
        target.execute("create schema credit")
    for dsn in (pair.source_dsn, pair.target_dsn):
        with psycopg.connect(dsn) as connection:
            connection.execute("create table credit.t (id int primary key)")
    with spawn_cdc(pair, "run") as daemon:
        daemon.wait_for_log("streaming")
        change_both(pair, "insert into credit.t values (1)")
        change_both(
            pair,
            "insert into credit.t values (2, 'two')",
            "alter table credit.t add column v text",
        )
        change_both(
            pair,
            "insert into credit.u (v) values ('one')",
            "create table credit.u (id int generated always as identity primary key, v text)",
        )
        assert daemon.terminate() == 0, daemon.log()
    drain(pair)


@on_every_version
def test_publication_made_again(pair: Pair) -> None:
    """Changes made while the publication was gone stop the daemon: 78, and nothing is confirmed.

    From PostgreSQL 18 on the server skips them with no more than a warning.
    """
    prepare(pair, "create table credit.t (id int primary key)")
    run_all(pair.source_dsn, "insert into credit.t values (1)")
    run_all(pair.source_dsn, f"drop publication {pair.publication}")
    run_all(pair.source_dsn, "insert into credit.t values (2)")
    run_all(pair.source_dsn, f"create publication {pair.publication} for table credit.t")
    run_all(pair.source_dsn, "insert into credit.t values (3)")
    for _ in range(2):  # the second time would find a position that the first had confirmed
        result = run_cdc(pair, "run", "--until-current")
        assert result.returncode == 78, result.stderr
        assert "publication" in result.stderr


def test_partitioned_table_in_a_list_of_tables(pair: Pair) -> None:
    """The root of a partitioned table is no new table: its rows travel as its partitions'."""
    prepare(
        pair,
        "create table credit.t (id int primary key) partition by range (id);"
        "create table credit.t_1 partition of credit.t for values from (0) to (100)",
        "insert into credit.t values (1)",
    )
    run_all(pair.source_dsn, "insert into credit.t values (2)")
    drain(pair)


def prepare(pair: Pair, *statements: str) -> None:
    """Make tables on both sides, rows on the source, and a pair that is ready to stream."""
    for dsn in (pair.source_dsn, pair.target_dsn):
        with psycopg.connect(dsn) as connection:
            connection.execute("create schema credit")
            connection.execute(statements[0])
    run_all(pair.source_dsn, *statements[1:])
    result = run_cdc(pair, "init")
    assert result.returncode == 0, result.stderr


def change_both(pair: Pair, change: str, *migration: str) -> None:
    """Migrate the target, then the source, then change the source."""
    run_all(pair.target_dsn, *migration)
    run_all(pair.source_dsn, *migration, change)


def run_all(dsn: str, *statements: str) -> None:
    """Run statements in one transaction."""
    with psycopg.connect(dsn) as connection:
        _run(connection, statements)


def _run(connection: Connection[tuple[object, ...]], statements: tuple[str, ...]) -> None:
    for statement in statements:
        connection.execute(statement.encode())


def drain(pair: Pair) -> None:
    """Bring the target up to date and compare."""
    result = run_cdc(pair, "run", "--until-current")
    assert result.returncode == 0, result.stderr
    same_rows(pair)


def test_numeric_that_became_wider_on_the_source_alone(pair: Pair) -> None:
    """A column that the source widened while the daemon ran stops it; nothing is rounded."""
    prepare(pair, "create table credit.t (id int primary key, n numeric(20,6))")
    with spawn_cdc(pair, "run") as daemon:
        daemon.wait_for_log("streaming")
        run_all(pair.source_dsn, "insert into credit.t values (1, 0.123456)")
        run_all(
            pair.source_dsn,
            "alter table credit.t alter column n type numeric(24,8)",
            "insert into credit.t values (2, 0.12345678)",
        )
        assert daemon.process.wait(20) == 78, daemon.log()
        assert "column n" in daemon.log()
    run_all(pair.target_dsn, "alter table credit.t alter column n type numeric(24,8)")
    drain(pair)


def test_column_widened_on_both_sides_while_rows_are_staged(pair: Pair) -> None:
    """A stage and a prepared statement keep the types of their time: a new shape has new ones."""
    prepare(
        pair,
        "create table credit.t (id int primary key, n numeric(20,6), d date)",
        "insert into credit.t select n, n, current_date from generate_series(1, 100) n",
    )
    with spawn_cdc(pair, "run") as daemon:
        daemon.wait_for_log("streaming")
        for change in ("where id <= 5", ""):  # few rows, then many: both forms of a statement
            run_all(pair.source_dsn, f"update credit.t set n = n + 0.000001 {change}")
        # A date that came after the target has another type would be refused.
        old = "select count(*) from credit.t where n = trunc(n)"
        wait_until(lambda: fetch(pair.target_dsn, old) == [0])
        migration = (
            "alter table credit.t alter column n type numeric(24,8),"
            " alter column d type timestamptz"
        )
        run_all(pair.target_dsn, migration)
        run_all(pair.source_dsn, migration)
        for change in ("where id <= 5", ""):
            run_all(
                pair.source_dsn,
                f"update credit.t set n = n + 0.00000001, d = d + interval '1 second' {change}",
            )
        assert daemon.terminate() == 0, daemon.log()
    drain(pair)


def test_confirmed_is_durable_whatever_the_database_says(pair: Pair) -> None:
    """The target's database has synchronous_commit off: what was confirmed survives its crash."""
    prepare(pair, "create table credit.t (id int primary key)")
    run_all(pair.target_admin_dsn, f"alter database {pair.slot} set synchronous_commit = off")
    run_all(pair.source_dsn, "insert into credit.t select generate_series(1, 100)")
    assert run_cdc(pair, "run", "--until-current").returncode == 0
    pair.target.stop()
    pair.target.start()
    same_rows(pair)
    with psycopg.connect(conninfo(pair.target_dsn, application_name="test")) as target:
        assert target.execute("show synchronous_commit").fetchone() == ("on",)


def test_table_with_a_trigger_made_while_the_target_sleeps(pair: Pair) -> None:
    """A table that came while the session was closed is prepared like any other."""
    with psycopg.connect(pair.source_admin_dsn) as source:
        source.execute("create schema credit authorization app_source")
        source.execute(f"create publication {pair.publication} for tables in schema credit")
    run_all(pair.target_dsn, "create schema credit")
    for dsn in (pair.source_dsn, pair.target_dsn):
        run_all(
            dsn,
            "create table credit.t (id int primary key)",
            "create function credit.touch() returns trigger language plpgsql as"
            " $$ begin new.touched := clock_timestamp(); return new; end $$",
        )
    with spawn_cdc(pair, "run", env={"CDC_TARGET_IDLE_DISCONNECT": "0.5"}) as daemon:
        daemon.wait_for_log("streaming")
        run_all(pair.source_dsn, "insert into credit.t values (1)")
        daemon.wait_for_log("closing the idle session")
        change_both(
            pair,
            "insert into credit.u values (1)",
            "create table credit.u (id int primary key, touched timestamptz)",
            "create trigger touch before insert or update on credit.u"
            " for each row execute function credit.touch()",
        )
        assert daemon.terminate() == 0, daemon.log()
    drain(pair)


def test_startup_options_in_the_dsn(pair: Pair) -> None:
    """A DSN may bring options of its own; ours are added to them."""
    prepare(pair, "create table credit.t (id int primary key)")
    dsn = f"{pair.source_dsn} options='-c wal_sender_timeout=5000 -c extra_float_digits=0'"
    result = run_cdc(pair, "run", "--until-current", env={"CDC_SOURCE_DSN": dsn})
    assert result.returncode == 0, result.stderr


def test_error_of_the_initial_copy_names_no_value(pair: Pair) -> None:
    """A row that the target refuses in the initial copy: 78, the table, no value, no traceback."""
    for dsn in (pair.source_dsn, pair.target_dsn):
        run_all(
            dsn,
            "create schema credit",
            "create domain credit.number as int",
            "create table credit.t (id credit.number primary key, s text)",
        )
    run_all(pair.source_dsn, "insert into credit.t values (4711, 'secret')")
    run_all(pair.target_dsn, "alter domain credit.number add check (value < 1000)")
    result = run_cdc(pair, "init")
    assert result.returncode == 78
    assert "credit.t cannot be copied" in result.stderr
    assert not any(word in result.stderr for word in ("4711", "secret", "Traceback"))


async def test_catalog_while_tables_are_made(pair: Pair) -> None:
    """A table that is made between two of the catalog's queries is not an error."""
    run_all(pair.target_dsn, "create schema credit")
    done = threading.Event()

    def migrate() -> None:
        for n in range(60):
            run_all(pair.target_dsn, f"create table credit.t{n} (id int primary key)")
        done.set()

    migration = threading.Thread(target=migrate)
    migration.start()
    async with await connect(pair.target_dsn) as target:
        while not done.is_set():
            catalog = await load_catalog(target, ["credit"])
            assert all(table.columns for table in catalog.tables.values())
    migration.join()


@on_every_version
async def test_chunks_of_a_partitioned_table(pair: Pair) -> None:
    """It is cut as an ordinary table of the same rows is, give or take one.

    ANALYZE notes for a partitioned table how many rows its partitions have. Added to theirs, it
    made all chunks twice as large as the settings say.
    """
    one = "create table credit.one (id int primary key, v text)"
    parts = "create table credit.parts (id int primary key, v text) partition by range (id)"
    each = "create table credit.part_{0} partition of credit.parts for values from ({0}) to ({1})"
    fill = "insert into credit.{} select n, repeat('x', 100) from generate_series(0, 9999) n"
    run_all(
        pair.source_dsn,
        *("create schema credit", one, parts),
        *(each.format(n, n + 5000) for n in (0, 5000)),
        *(fill.format(name) for name in ("one", "parts")),
        *("analyze credit.one", "analyze credit.parts"),
    )
    async with await connect(pair.source_dsn) as source:
        tables = (await load_catalog(source, ["credit"])).tables
        names = [("credit", "one"), ("credit", "parts")]
        sizes = await load_sizes(source, names)
        whole, cut = [
            len(await plan_chunks(source, table, Cut(table, table, ["id"]), sizes[name], 64 << 10))
            for name in names
            if (table := tables[name])
        ]
        assert abs(whole - cut) <= 1 < whole


def test_truncate_behind_changes_of_its_table_in_a_batch_that_is_replayed(pair: Pair) -> None:
    """Checks that wait on a table are made before it is truncated, in whichever form.

    Unique values that swapped owners had the batch replayed in source order, and there nothing
    made the foreign key's checks: "cannot TRUNCATE because it has pending trigger events", 78.
    Nor are others made then: row 3 of table c refers to nothing before the commit. And row 1 of d
    refers to what was renamed: what waits is of table a, which is not truncated.
    """
    prepare(
        pair,
        "create table credit.a (id int primary key, u int unique);"
        "create table credit.b (id int primary key, a int references credit.a);"
        "create table credit.c (id int primary key,"
        " a int references credit.a deferrable initially deferred);"
        "create table credit.d (id int primary key,"
        " a int references credit.a deferrable initially deferred)",
        "insert into credit.a values (1, 1), (2, 2), (4, 4)",
        "insert into credit.d values (1, 4)",
    )
    run_all(
        pair.source_dsn,
        "update credit.a set u = null where id = 1",
        "update credit.a set u = 1 where id = 2",
        "update credit.a set u = 2 where id = 1",
        "insert into credit.b values (1, 1)",
        "insert into credit.c values (3, 3)",
        "truncate credit.b",
        "insert into credit.a values (3, 3)",
        "insert into credit.b values (2, 2)",
        "update credit.a set id = 5 where id = 4",
        "truncate credit.d",
    )
    drain(pair)


def test_row_that_refers_to_a_key_which_is_gone_and_comes_again(pair: Pair) -> None:
    """Written before the delete of that key, a row would fall to ON DELETE CASCADE, unseen.

    While the source's check waits, a row may refer to a deleted key. What is gathered between two
    key changes was written with the deletes last, and the cascade took a row that the source has.
    """
    prepare(
        pair,
        "create table credit.a (id int primary key);"
        "create table credit.b (id int primary key, a int references credit.a"
        " on delete cascade deferrable initially deferred)",
        "insert into credit.a values (1), (2)",
    )
    run_all(
        pair.source_dsn,
        "delete from credit.a where id = 1",
        "insert into credit.b values (1, 1)",
        "update credit.a set id = 1 where id = 2",
    )
    drain(pair)


def test_a_column_that_the_target_generates_no_more(pair: Pair) -> None:
    """Its values are the source's from then on, though the session on the target is an older one.

    The catalog of the session's start said that the target computes them, so they were left out,
    and nobody was told.
    """
    prepare(
        pair,
        "create table credit.t (id int primary key, n int,"
        " g int generated always as (n * 2) stored)",
        "insert into credit.t (id, n) values (1, 1)",
    )
    with streaming(pair) as daemon:
        run_sql(pair.source_dsn, "insert into credit.t (id, n) values (2, 2)")
        count = "select count(*) from credit.t"
        wait_until(lambda: fetch(pair.target_dsn, count) == [2])
        for dsn in (pair.target_dsn, pair.source_dsn):
            run_sql(dsn, "alter table credit.t alter g drop expression")
        run_sql(pair.source_dsn, "update credit.t set g = 7; insert into credit.t values (3, 3, 3)")
        wait_until(lambda: fetch(pair.target_dsn, count) == [3])
        assert daemon.terminate() == 0
    assert same_rows(pair) == {"t": 3}

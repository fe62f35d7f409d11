"""What happens to a table between snapshot and reading, between two chunks, and at the end."""

import psycopg
import pytest

from tests.databases import fetch, migrate, run_sql, wait_until, waits_for_lock
from tests.pair import Pair, same_rows
from tests.process import drain, ok, run_cdc, spawn_cdc

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


def test_refused_after_its_row_was_mended(pair: Pair) -> None:
    """A change in conflict with a row that is not mended yet is not forgotten: its own was."""
    prepare(pair)
    run_sql(pair.target_dsn, "update credit.t set code = 'zz' where id = 900")
    run_sql(pair.target_dsn, "update credit.t set body = 'wrong' where id = 500")
    ok(pair, "resync")
    kill_before(pair, "select from credit.t where id = 500 for update", "run")
    run_sql(pair.source_dsn, "update credit.t set code = 'zz' where id = 1")
    drain(pair)
    assert same_rows(pair) == {"t": 1000}


def test_moves_to_where_was_copied(pair: Pair) -> None:
    """A row comes to a place that is copied; the source sent no TOAST, and has another there."""
    prepare(pair, init=False)
    kill_before(pair, "insert into credit.t values (900)", "init")
    run_sql(pair.source_dsn, "update credit.t set id = -1 where id = 1000")
    run_sql(pair.source_dsn, "update credit.t set id = -2 where id = -1")
    run_sql(pair.source_dsn, "insert into credit.t values (-1, 'another', 'short')")
    drain(pair)
    assert same_rows(pair) == {"t": 1001}


def test_one_chunk_while_another_worker_is_at_a_part(pair: Pair) -> None:
    """A part that is written by then is not taken for the whole table, though it is the first."""
    prepare(pair)
    (size,) = fetch(pair.source_dsn, "select pg_table_size('credit.t')::int8")
    halves = {"CDC_SNAPSHOT_CHUNK_BYTES": str(int(str(size)) * 2 // 3), "CDC_SNAPSHOT_WORKERS": "2"}
    run_sql(pair.target_dsn, "insert into credit.t values (0, 'extra', null)")
    run_sql(pair.target_dsn, "update credit.t set code = 'x' where id = 900")
    run_sql(pair.target_dsn, "update credit.t set code = 'c900' where id = 1")
    ok(pair, "resync")
    with psycopg.connect(pair.target_dsn) as blocker:
        blocker.execute("select from credit.t where id = 0 for update")
        with spawn_cdc(pair, "run", env=halves) as daemon:
            whole = "select from cdc.snapshot_chunk where lower is null and upper is null"
            wait_until(lambda: waiting(pair) == 1 and fetch(pair.target_dsn, whole) == [True])
            blocker.rollback()
            wait_for_copies(pair)
            assert daemon.terminate() == 0, daemon.log()
    assert same_rows(pair) == {"t": 1000}


def test_asked_for_anew_while_it_is_cut(pair: Pair) -> None:
    """The transaction that cuts tables into chunks is waited for: none of them stay behind."""
    migrate(pair, "create schema credit; create table credit.a (id int primary key)")
    migrate(pair, "create table credit.b (id int primary key)")
    ok(pair, "init")
    ok(pair, "resync")
    with psycopg.connect(pair.target_dsn) as blocker:
        blocker.execute("select from cdc.copy where table_name = 'b' for update")
        with spawn_cdc(pair, "run") as daemon:
            wait_until(lambda: waiting(pair) == 1)
            with spawn_cdc(pair, "resync", "credit.a") as asking:
                wait_until(lambda: waiting(pair) == 2)
                blocker.rollback()
                assert asking.process.wait(20) == 0, asking.log()
            wait_for_copies(pair)
            assert daemon.terminate() == 0, daemon.log()


def test_a_foreign_key_comes_back_behind_deferred_checks(pair: Pair) -> None:
    """Unique values that may be checked late have swapped owners when the rows are merged."""
    migrate(pair, "create schema credit; create table credit.p (id int primary key)")
    columns = "id int primary key, code int unique deferrable, p int references credit.p"
    migrate(pair, f"create table credit.t ({columns})")
    run_sql(pair.source_dsn, "insert into credit.p values (1), (2)")
    run_sql(pair.source_dsn, "insert into credit.t values (1, 1, 1), (2, 2, 2)")
    ok(pair, "init")
    run_sql(pair.source_admin_dsn, f"select pg_drop_replication_slot('{pair.slot}')")
    run_sql(pair.source_dsn, "update credit.t set code = 3 - code")
    resync = {"CDC_SOURCE_ON_SLOT_LOST": "resync"}
    result = run_cdc(pair, "run", "--until-current", env=resync)
    assert result.returncode == 0, result.stderr
    assert same_rows(pair) == {"p": 2, "t": 2}
    keys = (
        "select conname from pg_constraint where conrelid = 'credit.t'::regclass and contype = 'f'"
    )
    assert fetch(pair.target_dsn, keys) == ["t_p_fkey"]


def waiting(pair: Pair) -> int:
    """Count the target's sessions that wait for a lock."""
    query = "select from pg_stat_activity where wait_event_type = 'Lock' and datname = %s"
    return len(fetch(pair.target_dsn, query, pair.slot))


def prepare(pair: Pair, *, init: bool = True) -> None:
    """Make a table of many chunks, whose bodies are TOAST."""
    columns = "id int primary key, code text unique, body text"
    migrate(pair, f"create schema credit; create table credit.t ({columns})")
    migrate(pair, "alter table credit.t alter body set storage external")
    run_sql(
        pair.source_dsn,
        "insert into credit.t select n, 'c' || n, repeat('row ' || n, 500)"
        " from generate_series(1, 1000) n",
    )
    run_sql(pair.source_dsn, "analyze credit.t")
    if init:
        ok(pair, "init")


def kill_before(pair: Pair, lock: str, command: str) -> None:
    """Kill a command in the middle of the copy: some chunks are there, a lock stops the next."""
    with psycopg.connect(pair.target_dsn) as blocker:
        blocker.execute(lock.encode())
        with spawn_cdc(pair, command, env=ONE) as daemon:
            wait_until(lambda: waits_for_lock(pair.target_dsn))
            daemon.kill()
    copied, chunks = fetch(
        pair.target_dsn, "select count(copied_at)::int, count(*)::int from cdc.snapshot_chunk"
    )
    assert 1 < int(str(copied)) < int(str(chunks))

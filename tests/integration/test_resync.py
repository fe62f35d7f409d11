"""Tables copied anew while the stream runs: what differs is mended, readers see whole states."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from cdc.demo.workload import Workload, load
from tests.databases import fetch, migrate, run_sql, wait_until
from tests.faults.proxy import Fault, proxied
from tests.pair import Pair, execute, same_rows
from tests.process import drain, ok, run_cdc, slots, spawn_cdc, streaming

SMALL = {"CDC_SNAPSHOT_CHUNK_BYTES": "16384", "CDC_SNAPSHOT_WORKERS": "2"}
RESYNC = {"CDC_SOURCE_ON_SLOT_LOST": "resync", **SMALL}

TABLES = """
create schema credit;
create table credit.parent (id int primary key, code text unique, n numeric, body text);
create table credit.child (
    name text, day date, parent int references credit.parent, n int, primary key (name, day)
);
create table credit.bare (a int, b text);
alter table credit.bare replica identity full;
create table credit.tree (
    id uuid primary key, parent uuid references credit.tree, n int
);
create table credit.parts (id int, n int, primary key (id)) partition by hash (id);
create table credit.part_0 partition of credit.parts for values with (modulus 2, remainder 0);
create table credit.part_1 partition of credit.parts for values with (modulus 2, remainder 1);
"""
BIG = "(select string_agg(md5(i::text), '') from generate_series(1, 100) i)"
ROWS = f"""
insert into credit.parent select n, 'c' || n, n, {BIG} from generate_series(1, 3000) n;
insert into credit.child select 'é' || n % 50, date '2026-01-01' + n, n, n
  from generate_series(1, 3000) n;
insert into credit.bare select n % 7, 'b' from generate_series(1, 100) n;
insert into credit.tree select md5(n::text)::uuid, md5((n / 2)::text)::uuid, n
  from generate_series(0, 2000) n;
insert into credit.parts select n, n from generate_series(1, 3000) n;
"""
COUNTS = {"parent": 3000, "child": 3000, "bare": 100, "tree": 2001, "part_0": 1504, "part_1": 1496}

TAMPERED = """
alter table credit.child drop constraint child_parent_fkey;
delete from credit.parent where id % 3 = 0;
update credit.parent set code = 'swap' where id = 1;
update credit.parent set code = 'c1' where id = 2;
update credit.parent set code = 'c2' where id = 1;
update credit.parent set n = 1.00, body = null where id between 4 and 100;
insert into credit.parent values (-1, 'c3', 0, 'extra');
delete from credit.child where n % 2 = 0;
insert into credit.child values ('extra', '2020-01-01', null, 0);
delete from credit.bare where a = 3;
insert into credit.bare values (99, 'extra');
update credit.parts set n = -1 where id < 100;
"""


MENDED = "select count(copied_at) > 3 and count(*) > 90 from cdc.snapshot_chunk"


def test_what_differs_is_mended(pair: Pair) -> None:
    """Rows that are missing, extra or different, by key and without one; unique values swapped."""
    prepare(pair)
    run_sql(pair.target_dsn, TAMPERED)
    ok(pair, "resync")
    assert "not begun" in ok(pair, "status").stdout
    result = run_cdc(pair, "run", "--until-current", env=SMALL)
    assert result.returncode == 0, result.stderr
    assert same_rows(pair) == COUNTS
    assert fetch(pair.target_dsn, "select count(*) from cdc.copy where completed_at is null") == [0]
    assert fetch(pair.target_dsn, "select relname from pg_class where relname ~ '^shadow'") == []


def test_rows_that_are_as_they_were_are_not_touched(pair: Pair) -> None:
    """Of a table of which one row differs, one row is written."""
    prepare(pair)
    before = dict(zip(*versions(pair), strict=True))
    run_sql(pair.target_dsn, "update credit.parent set n = -1 where id = 77")
    ok(pair, "resync", "credit.parent")
    drain(pair)
    same_rows(pair)
    after = dict(zip(*versions(pair), strict=True))
    assert {key for key, version in after.items() if before[key] != version} == {77}


def test_a_table_is_copied_anew_under_writes(pair: Pair) -> None:
    """A reader of the target sees all rows all the while; what refers to the table goes on."""
    prepare(pair)
    with streaming(pair, SMALL) as daemon, reading(pair) as seen, writing(pair):
        for _ in range(3):
            run_sql(pair.target_dsn, "update credit.parent set n = -5 where id between 50 and 90")
            ok(pair, "resync", "credit.parent", "credit.tree", "credit.bare")
            wait_for_copies(pair)
        assert daemon.terminate() == 0, daemon.log()
    drain(pair)
    same_rows(pair)
    assert seen, "the reader has looked"
    assert min(seen) >= 3000, "whole states only"


def test_killed_at_any_moment_the_copy_goes_on(pair: Pair) -> None:
    """Killed a dozen times while four tables are copied anew under writes, both sides end equal."""
    prepare(pair)
    moments = random.Random(5)
    with writing(pair):
        run_sql(pair.target_dsn, TAMPERED)
        ok(pair, "resync")
        for _ in range(12):
            with spawn_cdc(pair, "run", env=SMALL) as daemon:
                daemon.wait_for_log("streaming")
                time.sleep(moments.uniform(0.0, 0.8))
                daemon.kill()
    drain(pair)
    same_rows(pair)


@pytest.mark.parametrize("deletes", ["soft", "ignore"])
def test_rows_that_are_kept_stay(pair: Pair, deletes: str) -> None:
    """By a table's policy: what the source has deleted is marked, or left as it is."""
    table = "create table credit.t (id int primary key, n int);"
    migrate(pair, f"create schema credit; {table}")
    run_sql(pair.target_dsn, "alter table credit.t add column deleted_at timestamptz")
    pair.settings.write_text(f'[tables."credit.t"]\ndeletes = "{deletes}"\n')
    run_sql(pair.source_dsn, "insert into credit.t select n, n from generate_series(1, 9) n")
    ok(pair, "init")
    run_sql(pair.source_dsn, "delete from credit.t where id in (1, 2)")
    drain(pair)
    run_sql(pair.target_dsn, "insert into credit.t values (77, 0)")
    run_sql(pair.target_dsn, "update credit.t set n = -1 where id > 2")
    ok(pair, "resync", "credit.t")
    drain(pair)
    kept = (
        "select id from credit.t where n is distinct from id or deleted_at is not null order by 1"
    )
    assert fetch(pair.target_dsn, "select count(*) from credit.t") == [10]
    assert fetch(pair.target_dsn, kept) == ([1, 2, 77] if deletes == "soft" else [77])


def test_the_slot_is_lost_and_made_anew(credit_pair: Pair) -> None:
    """Dropped under load: with `on_slot_lost = resync` nothing is missing afterwards.

    The ledger has the gap, and that it was closed; the target was readable all the while.
    """
    pair = credit_pair
    load(pair.source_dsn, 2_000)
    ok(pair, "init")
    with Workload(pair.source_dsn, seed=3, rate=200) as workload:
        with streaming(pair) as daemon:
            assert daemon.terminate() == 0
        run_sql(pair.source_admin_dsn, f"select pg_drop_replication_slot('{pair.slot}')")
        time.sleep(1)
        assert run_cdc(pair, "run", "--until-current").returncode == 78
        with spawn_cdc(pair, "run", env=RESYNC) as daemon:
            query = "select count(*) from cdc.ledger where event = 'position lost'"
            wait_until(lambda: fetch(pair.target_dsn, query) != [0])
            least: list[object] = [1]
            while open_gaps(pair):
                least += fetch(pair.target_dsn, "select count(*)::int from credit.credit_accounts")
            assert daemon.terminate() == 0, daemon.log()
        assert workload.running
    drain(pair)
    same_rows(pair)
    assert min(int(str(n)) for n in least) > 0
    assert len(slots(pair)) == 1
    assert fetch(
        pair.target_dsn, "select resolution from cdc.ledger where event = 'position lost'"
    ) == ["copied anew"]


def test_a_column_that_comes_while_a_table_is_copied_beside_its_rows(pair: Pair) -> None:
    """The rows that have come lack it: the copy begins anew, and the daemon goes on."""
    migrate(pair, "create schema credit; create table credit.t (id int primary key, n int unique);")
    run_sql(pair.source_dsn, "insert into credit.t select n, n from generate_series(1, 30000) n")
    ok(pair, "init")
    run_sql(pair.source_admin_dsn, f"select pg_drop_replication_slot('{pair.slot}')")
    chunks = {**RESYNC, "CDC_SNAPSHOT_CHUNK_BYTES": "8192"}
    with (
        proxied(pair.target_dsn) as (proxy, through),
        spawn_cdc(pair, "run", env=chunks | {"CDC_TARGET_DSN": through}) as daemon,
    ):
        daemon.wait_for_log("streaming")
        proxy.begin(Fault.DELAY)
        wait_until(lambda: fetch(pair.target_dsn, MENDED) == [True])
        for dsn in (pair.target_dsn, pair.source_dsn):
            run_sql(dsn, "alter table credit.t add column note text default 'none'")
        run_sql(pair.source_dsn, "update credit.t set note = 'new' where id % 1000 = 1")
        daemon.wait_for_log("left a change out")
        proxy.heal()
        wait_until(lambda: not open_gaps(pair), 60)
        assert daemon.terminate() == 0, daemon.log()
    drain(pair)
    same_rows(pair)


def test_the_target_goes_back_while_the_daemon_runs(pair: Pair) -> None:
    """A branch from before is put in its place: found by the checkpoint, and copied anew."""
    prepare(pair)
    execute(pair.target, f"create database {pair.slot}_old template {database(pair)}")
    with spawn_cdc(pair, "run", env=RESYNC) as daemon:
        run_sql(
            pair.source_dsn,
            "delete from credit.parent where id > 2990 and id not in"
            " (select parent from credit.child)",
        )
        run_sql(pair.source_dsn, "update credit.parent set n = 7 where id < 500")
        query = "select count(*) from credit.parent where n = 7"
        wait_until(lambda: fetch(pair.target_dsn, query) == [499])
        name = database(pair)
        execute(pair.target, f"drop database {name} with (force)")
        execute(pair.target, f"alter database {pair.slot}_old rename to {name}")
        run_sql(pair.source_dsn, "insert into credit.bare values (1000, 'after')")
        after = "select count(*) from credit.bare where a = 1000"
        wait_until(lambda: fetch(pair.target_dsn, after) == [1] and not open_gaps(pair))
        assert daemon.terminate() == 0, daemon.log()
    drain(pair)
    same_rows(pair)


def test_a_table_that_is_not_copied_is_named(pair: Pair) -> None:
    """`cdc resync` of what does not exist, and before `cdc init`."""
    early = run_cdc(pair, "resync", "credit.parent")
    assert early.returncode == 78
    assert "cdc init" in early.stderr
    prepare(pair)
    wrong = run_cdc(pair, "resync", "credit.parents")
    assert wrong.returncode == 78
    assert "credit.parents" in wrong.stderr
    assert run_cdc(pair, "resync", "parent").returncode == 2


def prepare(pair: Pair) -> None:
    """Make the tables, rows in them, and the copy."""
    migrate(pair, TABLES)
    run_sql(pair.source_dsn, ROWS)
    result = run_cdc(pair, "init", env=SMALL)
    assert result.returncode == 0, result.stderr
    assert same_rows(pair) == COUNTS


def versions(pair: Pair) -> tuple[list[object], list[object]]:
    """Give the keys of the parents on the target, and the transactions that wrote them."""
    ids = fetch(pair.target_dsn, "select id from credit.parent order by 1")
    return ids, fetch(pair.target_dsn, "select xmin::text from credit.parent order by id")


def wait_for_copies(pair: Pair) -> None:
    """Wait until no copy is under way."""
    query = "select count(*) from cdc.copy where completed_at is null"
    wait_until(lambda: fetch(pair.target_dsn, query) == [0], 60)


def open_gaps(pair: Pair) -> bool:
    """Tell whether the ledger has a gap that is not closed."""
    query = "select from cdc.ledger where from_lsn is not null and resolved_at is null"
    return bool(fetch(pair.target_dsn, query))


def database(pair: Pair) -> str:
    """Give the name of the pair's databases."""
    return pair.slot


@contextmanager
def writing(pair: Pair) -> Iterator[None]:
    """Change all tables until the block is left; parents are never fewer than 3,000."""
    done = threading.Event()

    def write() -> None:
        with psycopg.connect(pair.source_dsn, autocommit=True) as source:
            for n in range(5000, 1_000_000):
                source.execute("insert into credit.parent values (%s, %s, 0, 'x')", (n, f"c{n}"))
                source.execute("update credit.parent set n = n + 1 where id = %s", (n % 3000,))
                source.execute("update credit.child set parent = %s where n = %s", (n, n % 3000))
                source.execute("update credit.bare set b = b || 'x' where a = %s", (n % 7,))
                source.execute("update credit.bare set b = 'b' where length(b) > 20")
                source.execute("update credit.parts set id = id + 10000 where id = %s", (n % 3000,))
                source.execute("update credit.tree set n = -n where n = %s", (n % 2000,))
                source.execute(
                    "delete from credit.parent where id = %s and id not in"
                    " (select parent from credit.child)",
                    (n - 10,),
                )
                if done.wait(0.01):
                    return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        done.set()
        writer.join()


@contextmanager
def reading(pair: Pair) -> Iterator[list[int]]:
    """Count the parents on the target again and again until the block is left."""
    done, seen = threading.Event(), list[int]()

    def read() -> None:
        with psycopg.connect(pair.target_dsn, autocommit=True) as target:
            while not done.is_set():
                row = target.execute("select count(*) from credit.parent").fetchone()
                assert row is not None
                seen.append(int(row[0]))
                time.sleep(0.005)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield seen
    finally:
        done.set()
        reader.join()

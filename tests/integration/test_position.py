"""Slot, checkpoint and state directory that do not fit together: the daemon halts, applies nothing.

Each test ends at the same place: `cdc run` exits 78, and neither rows nor checkpoint have moved.
"""

import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from cdc.lsn import parse_lsn
from tests.databases import checkpoint, confirmed, fetch, migrate, run_sql, wait_until
from tests.pair import Pair, execute, same_rows
from tests.process import Daemon, drain, ok, run_cdc, spawn_cdc, streaming

SLOT = "select slot_name from pg_replication_slots where slot_name = %s"
ROW = "select id from credit.account where id = %s"
LSN = re.compile(r"\b[0-9A-F]{1,8}/[0-9A-F]{1,8}\b")

SCHEMA = """
create schema credit;
create table credit.account (id int primary key, balance int not null);
"""


@pytest.fixture
def current(pair: Pair) -> Pair:
    """A pair with one row, copied, and of which an idle time was confirmed after it."""
    migrate(pair, SCHEMA)
    run_sql(pair.source_dsn, insert(1))
    ok(pair, "init")
    run_sql(pair.source_dsn, insert(2))
    idle(pair)
    return pair


def idle(pair: Pair) -> None:
    """Run the daemon while nothing is published, until it has confirmed other WAL."""
    with streaming(pair) as daemon:
        wait_until(lambda: bool(fetch(pair.target_dsn, ROW, 2)))
        run_sql(pair.source_dsn, "create table public.other (n int); drop table public.other")
        wait_until(lambda: parse_lsn(confirmed(pair)) > parse_lsn(checkpoint(pair)))
        assert daemon.terminate() == 0, daemon.log()


def test_state_directory_lost(current: Pair) -> None:
    """Confirmed beyond the checkpoint, and nothing says that the range between is empty."""
    shutil.rmtree(current.state_dir)
    run_sql(current.source_dsn, insert(3))
    said = halted(current)
    assert {confirmed(current), checkpoint(current)} <= set(LSN.findall(said))
    assert ledger(current) == ["position lost", checkpoint(current), confirmed(current)]


def test_state_directory_brought_back(current: Pair, tmp_path: Path) -> None:
    """With its file brought back, the stream goes on as if nothing had been."""
    shutil.move(current.state_dir, tmp_path / "elsewhere")
    run_sql(current.source_dsn, insert(3))
    halted(current)
    shutil.rmtree(current.state_dir, ignore_errors=True)
    shutil.move(tmp_path / "elsewhere", current.state_dir)
    drain(current)
    assert same_rows(current) == {"account": 3}


def test_state_of_an_older_idle_time(current: Pair) -> None:
    """A state directory from a backup, older than what was confirmed since, does not do."""
    (file,) = current.state_dir.iterdir()
    old = file.read_bytes()
    idle(current)
    assert file.read_bytes() != old
    file.write_bytes(old)
    halted(current)


def test_state_that_cannot_be_read(current: Pair) -> None:
    """A file cut short is not taken for an empty range."""
    (file,) = current.state_dir.iterdir()
    file.write_bytes(file.read_bytes()[:20])
    assert str(file) in halted(current)


@pytest.mark.parametrize("last", [("init",), ("run", "--until-current")])
def test_state_directory_of_a_command_with_an_end(
    pair: Pair, tmp_path: Path, last: tuple[str, ...]
) -> None:
    """What it confirms of other WAL is in the checkpoint: a daemon with another directory goes on.

    So the first steps may be taken by hand, and the service has a directory of its own.
    """
    migrate(pair, SCHEMA)
    run_sql(pair.source_dsn, insert(1))
    with writing_others(pair):
        for verb in (("init",), last):
            ok(pair, *verb)
    assert parse_lsn(confirmed(pair)) <= parse_lsn(checkpoint(pair))
    with streaming(replace(pair, state_dir=tmp_path / "empty")) as daemon:
        run_sql(pair.source_dsn, insert(2))
        wait_until(lambda: bool(fetch(pair.target_dsn, ROW, 2)))
        assert daemon.terminate() == 0, daemon.log()
    assert same_rows(pair) == {"account": 2}


def test_state_directory_of_a_command_that_is_killed(pair: Pair, tmp_path: Path) -> None:
    """Not even before its end does a command confirm what only its own directory knows of."""
    migrate(pair, SCHEMA)
    run_sql(pair.source_dsn, insert(1))
    ok(pair, "init")
    with spawn_cdc(pair, "run", "--until-lsn", "FFFFFFFF/0") as command, writing_others(pair):
        command.wait_for_log("streaming")
        before = confirmed(pair)
        # A segment of it is let go all the same.
        wait_until(lambda: parse_lsn(confirmed(pair)) - parse_lsn(before) > 16 << 20)
        command.kill()
    assert parse_lsn(confirmed(pair)) <= parse_lsn(checkpoint(pair))
    drain(replace(pair, state_dir=tmp_path / "empty"))
    assert same_rows(pair) == {"account": 1}


@pytest.mark.parametrize("trouble", ["slot gone", "slot lost", "slot made again", "state gone"])
@pytest.mark.parametrize("flags", [(), ("--no-snapshot",)])
def test_init_looks_at_the_position(current: Pair, trouble: str, flags: tuple[str, ...]) -> None:
    """Where the stream could not go on, `init` does not say ready: 78, the range, the way back."""
    if trouble == "state gone":
        shutil.rmtree(current.state_dir)
    elif trouble == "slot lost":
        lose_slot(current)
    else:
        drop_slot(current)
    if trouble == "slot made again":
        make_slot(current)
    before = standing(current)
    result = run_cdc(current, "init", *flags)
    assert (result.returncode, result.stdout) == (78, ""), result.stderr
    assert checkpoint(current) in result.stderr
    assert "When the slot is lost" in result.stderr
    assert "CDC_SOURCE_ON_SLOT_LOST=resync" in result.stderr
    assert standing(current) == before
    assert ledger(current)[:2] == ["position lost", checkpoint(current)]


def test_init_makes_a_new_copy_if_it_is_to(current: Pair) -> None:
    """With `resync`, `init` itself makes the slot and the copies that its word ready promises."""
    drop_slot(current)
    run_sql(current.source_dsn, insert(3))
    result = run_cdc(current, "init", env={"CDC_SOURCE_ON_SLOT_LOST": "resync"})
    assert (result.returncode, "ready" in result.stdout) == (0, True), result.stderr
    assert same_rows(current) == {"account": 3}
    assert fetch(current.source_dsn, SLOT, current.slot) == [current.slot]


def test_init_beside_the_daemon(current: Pair) -> None:
    """Who streams has found its position to fit: `init` says ready, and leaves it alone."""
    with streaming(current) as daemon:
        run_sql(current.source_dsn, "create table public.more as select 1")
        ok(replace(current, state_dir=current.state_dir / "other"), "init")
        assert daemon.terminate() == 0, daemon.log()


@contextmanager
def writing_others(pair: Pair) -> Iterator[None]:
    """Write WAL of which nothing is copied, all the while."""
    run_sql(pair.source_dsn, "create table public.other (n text)")
    done = threading.Event()

    def write() -> None:
        while not done.wait(0.02):
            run_sql(
                pair.source_dsn,
                "insert into public.other select md5(n::text) from generate_series(1, 10000) n",
            )

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        done.set()
        writer.join()


@pytest.mark.parametrize("lost", [False, True])
def test_slot_created_again(current: Pair, *, lost: bool) -> None:
    """A slot of the same name that another one made, whether or not changes were lost between."""
    drop_slot(current)
    if lost:
        run_sql(current.source_dsn, insert(3))
    make_slot(current)
    said = halted(current)
    assert {confirmed(current), checkpoint(current)} <= set(LSN.findall(said))


def test_slot_dropped(current: Pair) -> None:
    """A slot that is gone is named, and is not made anew."""
    drop_slot(current)
    assert current.slot in halted(current)
    assert fetch(current.source_dsn, SLOT, current.slot) == []
    halted(current)
    assert ledger(current) == ["position lost", checkpoint(current), None], "said once"


def test_slot_dropped_while_the_daemon_is_cut_off(current: Pair) -> None:
    """A running daemon that finds its slot gone when it connects again halts as well."""
    with streaming(current) as daemon:
        # The daemon comes back within a second: as soon as the slot is free, it is dropped.
        with psycopg.connect(current.source_admin_dsn) as source:
            source.execute(
                "select pg_terminate_backend(active_pid, 5000) from pg_replication_slots"
                " where slot_name = %s",
                (current.slot,),
            )
            source.execute("select pg_drop_replication_slot(%s)", (current.slot,))
        assert daemon.process.wait(10) == 78, daemon.log()
        assert checkpoint(current) in daemon.log()


def test_target_went_back(current: Pair) -> None:
    """A target restored to an older checkpoint, found at the start."""
    before = checkpoint(current)
    run_sql(current.target_dsn, "update cdc.checkpoint set lsn = lsn - 1000")
    run_sql(current.source_dsn, insert(3))
    said = halted(current)
    assert before not in said
    assert {confirmed(current), checkpoint(current)} <= set(LSN.findall(said))


def test_target_went_back_while_the_daemon_runs(current: Pair) -> None:
    """A target restored to an older checkpoint is found by the next batch, which is not written."""
    with streaming(current) as daemon:
        run_sql(current.target_dsn, "update cdc.checkpoint set lsn = lsn - 1000")
        assert_refuses_the_next_batch(current, daemon)


def test_target_went_back_while_the_daemon_was_idle(current: Pair) -> None:
    """The same where the daemon had given its session back."""
    with streaming(current, {"CDC_TARGET_IDLE_DISCONNECT": "0.5"}) as daemon:
        daemon.wait_for_log("idle")
        run_sql(current.target_dsn, "update cdc.checkpoint set lsn = lsn - 1000")
        assert_refuses_the_next_batch(current, daemon)


@pytest.mark.parametrize("column", ["system_identifier", "timeline", "database"])
def test_checkpoint_of_another_source(current: Pair, column: str) -> None:
    """A checkpoint that belongs to another server, timeline or database is not gone on from."""
    run_sql(current.target_dsn, f"update cdc.checkpoint set {column} = '7'")
    halted(current)


@pytest.mark.parametrize("idle", [False, True])
def test_a_stale_daemon_is_fenced(current: Pair, *, idle: bool) -> None:
    """Once another daemon has claimed the checkpoint, the one before it writes nothing more."""
    with streaming(current, {"CDC_TARGET_IDLE_DISCONNECT": "0.5" if idle else "30"}) as daemon:
        if idle:
            daemon.wait_for_log("idle")
        run_sql(current.target_dsn, "update cdc.checkpoint set epoch = epoch + 1")
        assert_refuses_the_next_batch(current, daemon)
        assert "another daemon" in daemon.log()


def assert_refuses_the_next_batch(pair: Pair, daemon: Daemon) -> None:
    """Change the source and see the daemon end with 78, its batch not written."""
    before = standing(pair)
    run_sql(pair.source_dsn, insert(3))
    assert daemon.process.wait(10) == 78, daemon.log()
    assert standing(pair) == before


def halted(pair: Pair) -> str:
    """Run the daemon, see it end with 78 and nothing written, and give what it said."""
    before = standing(pair)
    result = run_cdc(pair, "run", "--until-current")
    assert result.returncode == 78, result.stderr
    assert standing(pair) == before
    return result.stderr


def standing(pair: Pair) -> list[object]:
    """Give the target's rows and checkpoint; a session that is made anew raises the epoch."""
    return [
        *fetch(pair.target_dsn, "select id, balance from credit.account order by id"),
        *fetch(pair.target_dsn, "select lsn::text, transactions from cdc.checkpoint"),
    ]


def insert(n: int) -> str:
    """Give the statement that inserts the nth row."""
    return f"insert into credit.account values ({n}, {n})"


def drop_slot(pair: Pair) -> None:
    """Drop the slot behind the daemon's back."""
    run_sql(pair.source_dsn, f"select pg_drop_replication_slot('{pair.slot}')")


def make_slot(pair: Pair) -> None:
    """Make a slot of the same name, as another one would."""
    run_sql(pair.source_dsn, "select pg_create_logical_replication_slot(%s, 'pgoutput')", pair.slot)


def lose_slot(pair: Pair) -> None:
    """Have the source write more WAL than it keeps for a slot."""
    execute(pair.source, "alter system set max_slot_wal_keep_size = '1MB'")
    execute(pair.source, "select pg_reload_conf()")
    try:
        for _ in range(3):
            execute(pair.source, "select pg_switch_wal()")
            run_sql(pair.source_admin_dsn, "create table public.some (); drop table public.some")
        execute(pair.source, "checkpoint")
        status = "select wal_status from pg_replication_slots where slot_name = %s"
        wait_until(lambda: fetch(pair.source_dsn, status, pair.slot) == ["lost"])
    finally:
        execute(pair.source, "alter system reset max_slot_wal_keep_size")
        execute(pair.source, "select pg_reload_conf()")


def ledger(pair: Pair) -> list[object]:
    """Give the ledger's open entries, three values each."""
    return fetch(
        pair.target_dsn,
        "select event, from_lsn::text, to_lsn::text from cdc.ledger"
        " where resolved_at is null and from_lsn is not null",
    )

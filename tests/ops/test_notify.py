"""What systemd hears of the daemon: READY, STATUS, WATCHDOG, RELOADING, STOPPING, each in its time.

The daemon is a process of its own, the manager a socket of ours, the servers are real; who is to
hang is stopped by a lock or by SIGSTOP.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.accounts import INSERT, SCHEMA, locked, rows, writing
from tests.databases import fetch, migrate, run_sql, wait_until, waits_for_lock
from tests.ops.manager import (
    READY,
    RELOADING,
    STOPPING,
    WATCHDOG,
    Manager,
    listening,
)
from tests.pair import Pair, same_rows
from tests.process import Daemon, all_copied, ok, run_cdc, spawn_cdc, streaming
from tests.servers import stoppable

# Who has not moved for half of it hangs; WATCHDOG comes each quarter of it.
WATCHDOG_S = 6

NOT_ALIVE = "not alive"

WALSENDER = "select active_pid from pg_replication_slots where slot_name = %s"
APPLIER = (
    "select pid from pg_stat_activity"
    " where datname = current_database() and application_name = 'cdc'"
)
ASLEEP = (
    "select pid from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'"
)


@pytest.fixture
def tiny(pair: Pair) -> Pair:
    """Two databases with one empty table; the source hears from the daemon each second."""
    migrate(pair, SCHEMA)
    hurried = make_conninfo(pair.source_dsn, options="-c wal_sender_timeout=3000")
    return replace(pair, source_dsn=hurried)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """Somebody who listens."""
    with listening(str(tmp_path / "notify")) as there:
        yield there


def notifying(manager: Manager) -> dict[str, str | None]:
    """Give the environment that a service is started in."""
    return {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": str(WATCHDOG_S * 1_000_000)}


@contextmanager
def service(pair: Pair, manager: Manager, **env: str) -> Iterator[Daemon]:
    """Run the daemon as a service, past its initial copy."""
    with streaming(pair, notifying(manager) | env) as daemon:
        manager.wait_for_status("streaming", daemon)
        yield daemon


def lives_on(manager: Manager, daemon: Daemon) -> None:
    """Assert that WATCHDOG comes for longer than anybody may stand still."""
    manager.wait_for_more(WATCHDOG, daemon, times=4)
    assert NOT_ALIVE not in daemon.log()


def hangs(manager: Manager, daemon: Daemon) -> None:
    """Assert that no WATCHDOG comes any more, but all else does."""
    daemon.wait_for_log(NOT_ALIVE)
    told, datagrams = manager.count(WATCHDOG), len(manager.heard())
    wait_until(lambda: len(manager.heard()) >= datagrams + 3)
    assert manager.count(WATCHDOG) == told


@contextmanager
def stopped(pid: object) -> Iterator[None]:
    """Let a process of a server stand still."""
    assert isinstance(pid, int)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_ready_comes_with_the_stream(tiny: Pair, tmp_path: Path, kind: str) -> None:
    """Not before; STOPPING comes when it is told to stop, before it ends."""
    address = str(tmp_path / "notify") if kind == "path" else f"@{tiny.slot}"
    with listening(address) as manager, spawn_cdc(tiny, "run", env=notifying(manager)) as daemon:
        manager.wait_for(READY, daemon)
        before = [line for datagram in manager.heard()[:-1] for line in datagram]
        assert READY not in before
        assert "STATUS=starting" in before
        assert '"streaming"' in daemon.log()
        assert manager.status.startswith("streaming")
        run_sql(tiny.source_dsn, INSERT, 1, 10)
        wait_until(lambda: rows(tiny) == 10)
        manager.wait_for_status("in sync", daemon)
        assert "checkpoint" in manager.status
        assert STOPPING not in manager.lines()
        assert daemon.terminate() == 0, daemon.log()
        assert STOPPING in manager.lines()
        assert manager.count(READY) == 1


def test_no_alarm_before_the_first_frame(tiny: Pair, manager: Manager) -> None:
    """What comes between the start of the stream and its reading may take a while."""
    ok(tiny, "init")
    late = "create table credit.late (id int primary key)"
    run_sql(tiny.target_dsn, late)
    run_sql(tiny.source_dsn, late)
    with psycopg.connect(tiny.source_dsn) as source:
        source.execute("lock table credit.late in share update exclusive mode")
        with spawn_cdc(tiny, "run", env=notifying(manager)) as daemon:
            manager.wait_for(READY, daemon)
            daemon.wait_for_log("a new table is locked")
            manager.wait_for_more(WATCHDOG, daemon, times=1)
            assert NOT_ALIVE not in daemon.log()


def test_stopping_comes_before_the_end(tiny: Pair, manager: Manager) -> None:
    """The batch in hand is given its time first, and systemd knows."""
    with service(tiny, manager) as daemon, locked(tiny.target_admin_dsn):
        run_sql(tiny.source_dsn, INSERT, 1, 10)
        wait_until(lambda: waits_for_lock(tiny.target_admin_dsn))
        daemon.process.send_signal(signal.SIGTERM)
        manager.wait_for(STOPPING, daemon)
        assert waits_for_lock(tiny.target_admin_dsn)
        assert daemon.process.wait(30) == 0


def test_who_stands_by_is_not_ready(tiny: Pair, manager: Manager) -> None:
    """STATUS says standby; READY comes when it leads. A reload says nothing of READY either."""
    other = replace(tiny, state_dir=tiny.state_dir / "other")
    with streaming(tiny) as leader, spawn_cdc(other, "run", env=notifying(manager)) as daemon:
        manager.wait_for_status("standby", daemon)
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for_log("no setting has changed")
        datagrams = len(manager.heard())
        wait_until(lambda: len(manager.heard()) >= datagrams + 2)
        assert READY not in manager.lines()
        assert leader.terminate() == 0
        manager.wait_for(READY, daemon)


def test_who_halts_says_why(tiny: Pair, manager: Manager) -> None:
    """A slot that is gone: never READY, and the last status is the problem."""
    ok(tiny, "init")
    run_sql(tiny.source_dsn, "select pg_drop_replication_slot(%s)", tiny.slot)
    ended = run_cdc(tiny, "run", env=notifying(manager))
    assert ended.returncode == 78, ended.stderr
    assert READY not in manager.lines()
    assert manager.status.startswith("halted, ")
    assert tiny.slot in manager.status


def test_commands_with_an_end_say_nothing(tiny: Pair, manager: Manager) -> None:
    """`cdc init` in the same environment is no service."""
    assert run_cdc(tiny, "init", env=notifying(manager)).returncode == 0
    assert manager.heard() == []


def test_watchdog_of_another_process(tiny: Pair, manager: Manager) -> None:
    """WATCHDOG_PID names who is watched: nobody else says WATCHDOG."""
    with service(tiny, manager, WATCHDOG_PID="1") as daemon:
        manager.wait_for_status("in sync", daemon)
        assert WATCHDOG not in manager.lines()


def test_watchdog_while_it_works(tiny: Pair, manager: Manager) -> None:
    """Under load."""
    with writing(tiny), service(tiny, manager) as daemon:
        lives_on(manager, daemon)
        assert rows(tiny) > 0


def test_watchdog_while_it_is_idle(tiny: Pair, manager: Manager) -> None:
    """Keepalives are enough of a sign."""
    with service(tiny, manager, CDC_TARGET_IDLE_DISCONNECT="1") as daemon:
        lives_on(manager, daemon)
        daemon.wait_for_log("closing the idle session")
        lives_on(manager, daemon)


def test_watchdog_between_bursts(tiny: Pair, manager: Manager) -> None:
    """Changes that wait for the next burst on purpose, and a batch that is full, are no hang."""
    with service(tiny, manager, CDC_APPLY_FLUSH_INTERVAL="600", CDC_APPLY_MAX_ROWS="10") as daemon:
        for n in range(10):
            run_sql(tiny.source_dsn, INSERT, n * 10, n * 10 + 9)
        lives_on(manager, daemon)
        assert rows(tiny) < 100


def test_watchdog_while_a_table_is_copied(tiny: Pair, manager: Manager) -> None:
    """A copy that waits for a lock keeps the stream standing, and changes waiting, on purpose."""
    run_sql(tiny.source_dsn, INSERT, 1, 100)
    with spawn_cdc(tiny, "run", env=notifying(manager)) as daemon:
        with locked(tiny.target_admin_dsn):
            wait_until(lambda: waits_for_lock(tiny.target_admin_dsn))
            run_sql(tiny.source_dsn, INSERT, 101, 200)
            manager.wait_for_status("0 of 1 tables copied", daemon)
            lives_on(manager, daemon)
        wait_until(lambda: all_copied(tiny), 60)
        wait_until(lambda: rows(tiny) == 200)
    same_rows(tiny)


@pytest.mark.parametrize("spool", ["0", "10000000"], ids=["WAL", "spool"])
def test_watchdog_while_the_target_is_away(tiny: Pair, manager: Manager, spool: str) -> None:
    """To try again and again is no hang; nor is to queue, and to replay what was queued."""
    env = {"CDC_SPOOL_MAX_BYTES": spool, "CDC_SPOOL_AFTER": "1"}
    with service(tiny, manager, **env) as daemon:
        stoppable(tiny.target).stop()
        run_sql(tiny.source_dsn, INSERT, 1, 10)
        daemon.wait_for_log("the target is away")
        lives_on(manager, daemon)
        if spool != "0":
            manager.wait_for_status("spooling", daemon)
        stoppable(tiny.target).start()
        wait_until(lambda: rows(tiny) == 10, 60)
        lives_on(manager, daemon)
        assert manager.count(READY) == 1


def test_watchdog_while_a_spool_that_was_turned_off_is_emptied(
    tiny: Pair, manager: Manager
) -> None:
    """Nothing is read from the source meanwhile, however long it takes: that is no hang."""
    with streaming(tiny, {"CDC_SPOOL_MAX_BYTES": "10000000", "CDC_SPOOL_AFTER": "1"}) as daemon:
        stoppable(tiny.target).stop()
        with psycopg.connect(tiny.source_dsn, autocommit=True) as source:
            for n in range(10000):
                source.execute(INSERT, (n, n))
        (end,) = fetch(tiny.source_dsn, "select pg_current_wal_lsn()::text")
        queued = (
            "select confirmed_flush_lsn >= %s::pg_lsn from pg_replication_slots"
            " where slot_name = %s"
        )
        wait_until(lambda: fetch(tiny.source_dsn, queued, end, tiny.slot) == [True], 60)
        assert daemon.terminate() == 0, daemon.log()
    stoppable(tiny.target).start()
    # It looks twice a second, most likely between two batches now and then.
    env = notifying(manager) | {"CDC_APPLY_MAX_ROWS": "1", "WATCHDOG_USEC": "2000000"}
    with spawn_cdc(tiny, "run", env=env) as daemon:
        daemon.wait_for_log("all that was queued is applied")
        assert rows(tiny) == 10000
        assert NOT_ALIVE not in daemon.log()


def test_watchdog_while_the_source_is_away(tiny: Pair, manager: Manager) -> None:
    """STATUS says what it waits for."""
    with service(tiny, manager) as daemon:
        stoppable(tiny.source).stop()
        manager.wait_for_status("waiting, ", daemon)
        lives_on(manager, daemon)
        stoppable(tiny.source).start()
        manager.wait_for_status("streaming", daemon)


@pytest.mark.parametrize("keepalives_idle", ["600", "1"], ids=["unwatched", "watched"])
def test_no_watchdog_when_the_applier_waits_for_us(
    tiny: Pair, manager: Manager, keepalives_idle: str
) -> None:
    """A lock that a session of cdc has may be a knot; nor does it live of whom nobody asks.

    The stream goes on, systemd hears how far behind it is, and WATCHDOG comes with the lock.
    """
    asking = make_conninfo(tiny.target_dsn, keepalives_idle=keepalives_idle)
    ours = make_conninfo(tiny.target_admin_dsn, application_name="cdc copy")
    with service(tiny, manager, CDC_TARGET_DSN=asking) as daemon:
        with locked(ours):
            run_sql(tiny.source_dsn, INSERT, 1, 10)
            wait_until(lambda: waits_for_lock(tiny.target_admin_dsn))
            hangs(manager, daemon)
            assert "s behind" in manager.status
        manager.wait_for_more(WATCHDOG, daemon, times=3)
        wait_until(lambda: rows(tiny) == 10)
        assert daemon.log().count(NOT_ALIVE) == 1


def test_watchdog_while_the_target_is_at_work(tiny: Pair, manager: Manager) -> None:
    """A statement that takes longer than anybody may stand still, or waits for another's lock.

    The daemon was killed, and again after each start, though the target had said that it works.
    """
    asking = make_conninfo(tiny.target_dsn, keepalives_idle=1)
    slow = "pg_sleep(case id when 1 then 10 else 0 end)::text = ''"
    ok(tiny, "init")
    run_sql(tiny.target_dsn, f"alter table credit.account add check ({slow})")
    with service(tiny, manager, CDC_TARGET_DSN=asking) as daemon:
        run_sql(tiny.source_dsn, INSERT, 1, 10)
        wait_until(lambda: bool(fetch(tiny.target_admin_dsn, ASLEEP)))
        lives_on(manager, daemon)
        wait_until(lambda: rows(tiny) == 10)
        with locked(tiny.target_admin_dsn):
            run_sql(tiny.source_dsn, INSERT, 11, 20)
            daemon.wait_for_log("waiting for a lock that others have")
            lives_on(manager, daemon)
            assert "s behind" in manager.status
        wait_until(lambda: rows(tiny) == 20)
        assert daemon.terminate() == 0, daemon.log()


def test_no_watchdog_when_the_target_does_not_answer(tiny: Pair, manager: Manager) -> None:
    """A backend that stands still is a connection without an answer."""
    with service(tiny, manager) as daemon:
        run_sql(tiny.source_dsn, INSERT, 1, 10)
        wait_until(lambda: rows(tiny) == 10)
        stoppable(tiny.target)
        (backend,) = fetch(tiny.target_admin_dsn, APPLIER)
        with stopped(backend):
            run_sql(tiny.source_dsn, INSERT, 11, 20)
            hangs(manager, daemon)
        manager.wait_for_more(WATCHDOG, daemon, times=3)
        wait_until(lambda: rows(tiny) == 20)


def test_no_watchdog_when_the_stream_is_silent(tiny: Pair, manager: Manager) -> None:
    """A walsender that stands still sends not even keepalives."""
    with service(tiny, manager) as daemon:
        stoppable(tiny.source)
        (walsender,) = fetch(tiny.source_admin_dsn, WALSENDER, tiny.slot)
        with stopped(walsender):
            hangs(manager, daemon)
            assert "the stream has brought nothing" in daemon.log()
        manager.wait_for_more(WATCHDOG, daemon, times=3)


def test_a_reload_is_told(tiny: Pair, manager: Manager) -> None:
    """RELOADING with the time of it, then READY; with a broken file too."""
    with service(tiny, manager) as daemon:
        ready = manager.count(READY)
        daemon.process.send_signal(signal.SIGHUP)
        manager.wait_for(READY, daemon, times=ready + 1)
        (reloading,) = [datagram for datagram in manager.heard() if RELOADING in datagram]
        assert any(line.startswith("MONOTONIC_USEC=") for line in reloading)
        assert manager.lines().index(RELOADING) > manager.lines().index(READY)
        assert manager.count(READY) == ready + 1


def test_a_manager_that_is_gone_ends_nothing(tiny: Pair, tmp_path: Path) -> None:
    """The daemon says so once, and goes on."""
    address = str(tmp_path / "notify")
    with listening(address) as manager:
        manager_is_gone = manager.address
    with streaming(tiny, {"NOTIFY_SOCKET": manager_is_gone, "WATCHDOG_USEC": "400000"}) as daemon:
        run_sql(tiny.source_dsn, INSERT, 1, 10)
        wait_until(lambda: rows(tiny) == 10)
        time.sleep(1)
        assert daemon.log().count("systemd cannot be told") == 1
        assert daemon.terminate() == 0

"""Two daemons for one slot: one leads, the other stands by and takes over within 30 s.

The slot is the lease, the checkpoint's epoch the fence. Whatever moment the leader is frozen in, it
holds nothing that the other waits for, and once it wakes it cannot write a byte. Each has a state
directory of its own, as on two machines.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from psycopg.conninfo import make_conninfo

from cdc.lsn import parse_lsn
from tests.accounts import INSERT, SCHEMA, rows
from tests.databases import checkpoint, confirmed, fetch, migrate, run_sql, wait_until
from tests.faults.proxy import Fault, proxied
from tests.pair import Pair, same_rows
from tests.process import STREAMING, Daemon, spawn_cdc, streaming

TAKEOVER_S = 30.0
STANDING_BY = "standing by"

# Seconds after which the slot is taken from a leader that is silent; 15 in operation.
HURRIED = "-c wal_sender_timeout=3000"

FOREIGN_TABLE = "create table public.foreign_wal as select ''::text as body"
FOREIGN_WAL = "insert into public.foreign_wal select md5(n::text) from generate_series(1, 100000) n"
IN_TRANSACTION = (
    "select a.pid from pg_stat_activity a join pg_locks l using (pid)"
    " where l.relation = 'credit.account'::regclass and l.mode = 'RowExclusiveLock'"
    " and a.datname = current_database()"
)


@pytest.fixture
def tiny(pair: Pair) -> Pair:
    """Two databases with one empty table; `cdc run` initializes them by itself."""
    migrate(pair, SCHEMA)
    return pair


def test_a_leader_that_is_killed(tiny: Pair) -> None:
    """The other takes over; nothing is lost and nothing comes twice."""
    with streaming(tiny) as leader, standing_by(tiny, leader) as other:
        run_sql(tiny.source_dsn, INSERT, 1, 1000)
        leader.kill()
        run_sql(tiny.source_dsn, INSERT, 1001, 1010)
        other.wait_for_log(STREAMING, TAKEOVER_S)
        wait_until(lambda: rows(tiny) == 1010)
        assert other.terminate() == 0, other.log()
    same_rows(tiny)


@pytest.mark.parametrize("hurried", [True, False], ids=["hurried", "as in operation"])
def test_a_leader_that_is_frozen(tiny: Pair, hurried: bool) -> None:  # noqa: FBT001
    """The other takes over; the leader, woken, finds its place taken and ends with 78."""
    env = hurry(tiny) if hurried else {}
    with streaming(tiny, env) as leader, standing_by(tiny, leader) as other:
        run_sql(tiny.source_dsn, INSERT, 1, 10)
        wait_until(lambda: rows(tiny) == 10)
        with frozen(leader):
            run_sql(tiny.source_dsn, INSERT, 11, 20)
            other.wait_for_log(STREAMING, TAKEOVER_S)
            wait_until(lambda: rows(tiny) == 20)
        is_fenced(leader)
        run_sql(tiny.source_dsn, INSERT, 21, 30)
        wait_until(lambda: rows(tiny) == 30)
        assert other.terminate() == 0, other.log()
    same_rows(tiny)


def test_a_leader_frozen_inside_a_large_transaction(tiny: Pair) -> None:
    """Its open transaction, and the locks that it holds on rows, keep the other waiting no more."""
    env = hurry(tiny) | {"CDC_APPLY_MAX_ROWS": "200"}
    with streaming(tiny, env) as leader, standing_by(tiny, leader) as other:
        run_sql(tiny.source_dsn, INSERT, 1, 60_000)
        wait_until(lambda: bool(fetch(tiny.target_admin_dsn, IN_TRANSACTION)))
        with frozen(leader):
            assert fetch(tiny.target_admin_dsn, IN_TRANSACTION)
            other.wait_for_log(STREAMING, TAKEOVER_S)
            wait_until(lambda: rows(tiny) == 60_000, TAKEOVER_S)
            held = checkpoint(tiny)
        is_fenced(leader)
        assert checkpoint(tiny) == held
        assert other.terminate() == 0, other.log()
    same_rows(tiny)


def test_a_leader_frozen_while_it_copies(tiny: Pair) -> None:
    """The other takes the initial copy up where it stands, past what the leader holds."""
    run_sql(tiny.source_dsn, INSERT, 1, 1000)
    with proxied(tiny.target_dsn) as (proxy, dsn):
        env = hurry(tiny) | {"CDC_TARGET_DSN": dsn}
        proxy.begin(Fault.HOLD_COMMIT)
        with spawn_cdc(tiny, "run", env=env) as leader:
            assert proxy.held.wait(20)
            with frozen(leader), spawn_cdc(tiny, "run") as other:
                other.wait_for_log(STREAMING, TAKEOVER_S)
                wait_until(lambda: rows(tiny) == 1000)
                proxy.heal()
                assert other.terminate() == 0, other.log()
            assert leader.process.wait(TAKEOVER_S) == 78, leader.log()
    same_rows(tiny)


def test_a_leader_frozen_before_its_commit(tiny: Pair) -> None:
    """Frozen when it has moved the checkpoint and not committed: what it did is undone, once."""
    with proxied(tiny.target_dsn) as (proxy, dsn):
        env = hurry(tiny) | {"CDC_TARGET_DSN": dsn}
        with streaming(tiny, env) as leader, standing_by(tiny, leader) as other:
            run_sql(tiny.source_dsn, INSERT, 1, 10)
            wait_until(lambda: rows(tiny) == 10)
            proxy.begin(Fault.HOLD_COMMIT)
            run_sql(tiny.source_dsn, INSERT, 11, 20)
            assert proxy.held.wait(20)
            with frozen(leader):
                wait_until(lambda: bool(fetch(tiny.target_admin_dsn, IN_TRANSACTION)))
                other.wait_for_log(STREAMING, TAKEOVER_S)
                wait_until(lambda: rows(tiny) == 20)
                # The COMMIT arrives after all, at a backend that is no more.
                proxy.heal()
            is_fenced(leader)
            assert other.terminate() == 0, other.log()
    same_rows(tiny)
    assert fetch(tiny.target_dsn, "select changes from cdc.checkpoint") == [20]


def test_a_standby_of_an_idle_leader(tiny: Pair) -> None:
    """What the leader confirmed while idle, before and after, is in the checkpoint: no gap."""
    run_sql(tiny.source_dsn, FOREIGN_TABLE)
    with streaming(tiny) as leader:
        run_sql(tiny.source_dsn, FOREIGN_WAL)
        wait_until(lambda: beyond(tiny) > 0)
        with standing_by(tiny, leader) as other:
            before = checkpoint(tiny)
            for _ in range(3):
                run_sql(tiny.source_dsn, FOREIGN_WAL)
                time.sleep(1)
                assert beyond(tiny) <= 0
            # More than a segment: it is let go all the same.
            wait_until(lambda: parse_lsn(confirmed(tiny)) - parse_lsn(before) > 16 << 20)
            leader.kill()
            run_sql(tiny.source_dsn, INSERT, 1, 10)
            other.wait_for_log(STREAMING, TAKEOVER_S)
            wait_until(lambda: rows(tiny) == 10)
            assert other.terminate() == 0, other.log()
    same_rows(tiny)


def beyond(pair: Pair) -> int:
    """Give how far beyond the checkpoint the source was confirmed."""
    return parse_lsn(confirmed(pair)) - parse_lsn(checkpoint(pair))


def hurry(pair: Pair) -> dict[str, str]:
    """Give the environment of a leader that soon loses the slot."""
    return {"CDC_SOURCE_DSN": make_conninfo(pair.source_dsn, options=HURRIED)}


@contextmanager
def standing_by(pair: Pair, leader: Daemon) -> Iterator[Daemon]:
    """Run a second daemon, which has found the slot in use, and of which the leader knows."""
    env = {"CDC_STATE_DIR": str(pair.state_dir / "other")}
    with spawn_cdc(pair, "run", env=env) as daemon:
        daemon.wait_for_log(STANDING_BY)
        leader.wait_for_log("another daemon stands by")
        wait_until(lambda: beyond(pair) <= 0)
        yield daemon


@contextmanager
def frozen(daemon: Daemon) -> Iterator[None]:
    """Stop the process where it is, as a hypervisor would; let it go on afterwards."""
    os.kill(daemon.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(daemon.process.pid, signal.SIGCONT)


def is_fenced(daemon: Daemon) -> None:
    """Assert that it ends, because another one is in its place."""
    assert daemon.process.wait(TAKEOVER_S) == 78, daemon.log()
    assert "was moved by another daemon" in daemon.log()

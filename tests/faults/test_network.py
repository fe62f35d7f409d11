"""What a network does between the daemon and either server: nothing is lost, nothing comes twice.

A real server behind a proxy that cuts, stalls, delays and drips. A stall is the hard one: nobody is
told, and TCP sees a peer in the best of health.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest
from psycopg.conninfo import make_conninfo

from tests.accounts import INSERT, SCHEMA, locked, rows, writing
from tests.databases import fetch, migrate, run_sql, wait_until
from tests.faults.proxy import Fault, Proxy, proxied
from tests.faults.resolver import silent_resolver
from tests.pair import Pair, same_rows
from tests.process import STREAMING, all_copied, drain, ok, spawn_cdc, streaming

Side = Literal["source", "target"]

# Seconds of silence before the daemon asks after a server, and for a connection: 15 and 15 in
# operation (`cdc.postgres.session.WAN`).
HURRIED = {"keepalives_idle": 2, "connect_timeout": 2}

# After so many bytes of its answers a server falls silent: the catalogs' are most of them.
ANSWERED = (600, 5_000, 20_000)

CUT = "cutting the connection"

on_each_side = pytest.mark.parametrize("side", ["source", "target"])


@pytest.fixture
def tiny(pair: Pair) -> Pair:
    """Two databases with one empty table; `cdc run` initializes them by itself."""
    migrate(pair, SCHEMA)
    return pair


@on_each_side
@pytest.mark.parametrize("fault", [Fault.RESET, Fault.END])
def test_a_connection_that_is_cut(tiny: Pair, side: Side, fault: Fault) -> None:
    """Cut under load and for a while, both sides are equal once it is healed."""
    with before(tiny, side) as (proxy, env), writing(tiny), streaming(tiny, env) as daemon:
        wait_until(lambda: rows(tiny) > 0)
        proxy.begin(fault)
        daemon.wait_for_log("trying again", 30)
        proxy.heal()
        goes_on(tiny)
        assert daemon.terminate() == 0, daemon.log()
    drain(tiny)
    same_rows(tiny)


@on_each_side
@pytest.mark.parametrize("fault", [Fault.STALL, Fault.STALL_OLD])
def test_a_connection_that_falls_silent(tiny: Pair, side: Side, fault: Fault) -> None:
    """A line on which nothing moves any more is noticed and cut, though TCP finds it healthy."""
    with before(tiny, side) as (proxy, env), streaming(tiny, env) as daemon:
        run_sql(tiny.source_dsn, INSERT, 1, 10)
        wait_until(lambda: rows(tiny) == 10)
        proxy.begin(fault)
        run_sql(tiny.source_dsn, INSERT, 11, 20)
        daemon.wait_for_log(CUT, 30)
        proxy.heal()
        wait_until(lambda: rows(tiny) == 20)
        run_sql(tiny.source_dsn, "update credit.account set balance = 1")
        assert daemon.terminate() == 0, daemon.log()
    drain(tiny)
    same_rows(tiny)


@on_each_side
@pytest.mark.parametrize("fault", [Fault.DELAY, Fault.DRIP])
def test_a_slow_line(tiny: Pair, side: Side, fault: Fault) -> None:
    """However slowly bytes arrive, a line on which they do is not taken for a dead one."""
    with before(tiny, side) as (proxy, env), streaming(tiny, env) as daemon:
        proxy.begin(fault)
        for n in range(1, 4):
            run_sql(tiny.source_dsn, INSERT, n * 1000, n * 1000 + 499)
        wait_until(lambda: rows(tiny) == 1500)
        assert CUT not in daemon.log()
        assert daemon.log().count(STREAMING) == 1
        assert daemon.terminate() == 0, daemon.log()
    same_rows(tiny)


@on_each_side
def test_silent_from_the_start(tiny: Pair, side: Side) -> None:
    """A server that takes connections and says nothing is given up, and tried again."""
    with before(tiny, side) as (proxy, env):
        proxy.begin(Fault.STALL)
        with spawn_cdc(tiny, "run", env=env) as daemon:
            daemon.wait_for_log("trying again", 30)
            proxy.heal()
            daemon.wait_for_log(STREAMING)
            run_sql(tiny.source_dsn, INSERT, 1, 10)
            wait_until(lambda: rows(tiny) == 10)
            assert daemon.terminate() == 0, daemon.log()
    same_rows(tiny)


@on_each_side
def test_silent_at_any_point_of_the_start(tiny: Pair, side: Side) -> None:
    """Silent while it connects, reads catalogs or begins to stream: each time it begins anew."""
    run_sql(tiny.source_dsn, INSERT, 1, 10)
    with before(tiny, side) as (proxy, env), spawn_cdc(tiny, "run", env=env) as daemon:
        for silences, size in enumerate(ANSWERED, start=1):
            proxy.stall_after(size)
            wait_until(lambda: daemon.log().count("trying again") >= silences, 30)  # noqa: B023
            proxy.heal()
        wait_until(lambda: rows(tiny) == 10)
        assert daemon.terminate() == 0, daemon.log()
    drain(tiny)
    assert same_rows(tiny) == {"account": 10}


@on_each_side
def test_silent_during_the_initial_copy(tiny: Pair, side: Side) -> None:
    """A copy whose line falls silent is begun again, and ends equal."""
    run_sql(
        tiny.source_dsn,
        "insert into credit.account select n, 0, repeat('x', 1000) from generate_series(1, 8000) n",
    )
    with before(tiny, side) as (proxy, env), spawn_cdc(tiny, "run", env=env) as daemon:
        proxy.begin(Fault.DELAY)
        wait_until(lambda: bool(fetch(tiny.target_admin_dsn, COPIES)))
        proxy.begin(Fault.STALL)
        daemon.wait_for_log("trying again", 40)
        proxy.heal()
        wait_until(lambda: rows(tiny) == 8000, 60)
        assert daemon.terminate() == 0, daemon.log()
    drain(tiny)
    assert same_rows(tiny) == {"account": 8000}


def test_a_commit_whose_answer_is_lost(tiny: Pair) -> None:
    """The target commits and the answer is lost: the checkpoint tells, nothing is applied twice."""
    drain(tiny)
    with before(tiny, "target") as (proxy, env), streaming(tiny, env) as daemon:
        for n in range(1, 4):
            proxy.lost.clear()
            proxy.begin(Fault.LOSE_COMMIT)
            run_sql(tiny.source_dsn, INSERT, n * 10 + 1, n * 10 + 10)
            assert proxy.lost.wait(20)
            wait_until(lambda: rows(tiny) == n * 10)  # noqa: B023
            run_sql(tiny.source_dsn, "update credit.account set balance = balance + 1")
            wait_until(lambda: total(tiny.target_dsn) == total(tiny.source_dsn))
        assert daemon.log().count(STREAMING) == 1
        assert daemon.terminate() == 0, daemon.log()
    same_rows(tiny)
    assert fetch(tiny.target_dsn, "select changes from cdc.checkpoint") == [90]


def test_a_chunk_whose_answer_is_lost(tiny: Pair) -> None:
    """A chunk that is written and not answered is known of before the stream goes on behind it."""
    with before(tiny, "target") as (proxy, env), writing(tiny):
        proxy.begin(Fault.LOSE_CHUNK)
        with spawn_cdc(tiny, "run", env=env) as daemon:
            assert proxy.lost.wait(20)
            daemon.wait_for_log('"message":"copied"')
            goes_on(tiny)
            assert daemon.terminate() == 0, daemon.log()
    drain(tiny)
    same_rows(tiny)


def test_silent_when_a_copy_is_asked_for(tiny: Pair) -> None:
    """The source has forgotten the wish by then; the daemon has not."""
    with before(tiny, "target") as (proxy, env), streaming(tiny, env) as daemon:
        proxy.begin(Fault.STALL)
        ok(tiny, "resync")
        daemon.wait_for_log("trying again")
        proxy.heal()
        wait_until(lambda: all_copied(tiny))
        assert daemon.terminate() == 0, daemon.log()


def test_a_claim_whose_answer_is_lost(tiny: Pair) -> None:
    """A daemon whose claim was not answered is not fenced off by it, at the start or later."""
    with before(tiny, "target") as (proxy, env):
        ok(tiny, "init")
        proxy.begin(Fault.LOSE_CLAIM)
        with spawn_cdc(tiny, "run", env=env) as daemon:
            run_sql(tiny.source_dsn, INSERT, 1, 10)
            wait_until(lambda: rows(tiny) == 10)
            assert proxy.lost.is_set()
            proxy.lost.clear()
            proxy.begin(Fault.RESET)
            proxy.begin(Fault.LOSE_CLAIM)
            run_sql(tiny.source_dsn, INSERT, 11, 20)
            wait_until(lambda: rows(tiny) == 20)
            assert proxy.lost.is_set()
            assert daemon.terminate() == 0, daemon.log()
    same_rows(tiny)


def test_a_statement_that_takes_its_time(tiny: Pair) -> None:
    """A target that works, or waits for a lock, is asked after and then waited for."""
    with before(tiny, "target") as (_, env), streaming(tiny, env) as daemon:
        with locked_for(tiny, 6):
            run_sql(tiny.source_dsn, INSERT, 1, 10)
        wait_until(lambda: rows(tiny) == 10)
        assert CUT not in daemon.log()
        assert daemon.terminate() == 0, daemon.log()


def test_our_own_walsender_left_behind(tiny: Pair) -> None:
    """A stream cut where the source does not notice is taken up again at once: the slot is ours."""
    with before(tiny, "source") as (proxy, env), streaming(tiny, env) as daemon:
        (holder,) = fetch(tiny.source_dsn, HOLDER, tiny.slot)
        proxy.begin(Fault.STALL_OLD)
        wait_until(lambda: daemon.log().count(STREAMING) == 2, 14)
        assert "standing by" not in daemon.log()
        assert fetch(tiny.source_dsn, HOLDER, tiny.slot) != [holder]
        run_sql(tiny.source_dsn, INSERT, 1, 10)
        wait_until(lambda: rows(tiny) == 10)
        assert daemon.terminate() == 0, daemon.log()
        proxy.heal()
    same_rows(tiny)


@on_each_side
def test_told_to_stop_while_a_name_is_looked_up(tiny: Pair, tmp_path: Path, side: Side) -> None:
    """A resolver that does not answer holds nobody up: no thread of ours is waited for."""
    elsewhere = make_conninfo(tiny.source_dsn, host="db.example.com", hostaddr=None)
    with (
        silent_resolver(tmp_path) as (resolver, script),
        spawn_cdc(tiny, "run", env={f"CDC_{side.upper()}_DSN": elsewhere}, script=script) as daemon,
    ):
        resolver.recv(512)
        assert daemon.terminate() == 0, daemon.log()


@on_each_side
def test_told_to_stop_while_a_server_is_silent(tiny: Pair, side: Side) -> None:
    """A daemon that waits for a silent server ends in time all the same."""
    with before(tiny, side) as (proxy, env), streaming(tiny, env) as daemon:
        proxy.begin(Fault.STALL)
        run_sql(tiny.source_dsn, INSERT, 1, 10)
        time.sleep(1)
        assert daemon.terminate(20) == 0, daemon.log()
        proxy.heal()
    drain(tiny)
    assert same_rows(tiny) == {"account": 10}


HOLDER = "select active_pid from pg_replication_slots where slot_name = %s"
COPIES = (
    "select pid from pg_stat_activity"
    " where application_name = 'cdc copy' and datname = current_database()"
    " and query ilike 'copy%'"
)


@contextmanager
def before(pair: Pair, side: Side) -> Iterator[tuple[Proxy, dict[str, str]]]:
    """Put a proxy before one side; the environment leads the daemon through it."""
    dsns = {"source": pair.source_dsn, "target": pair.target_dsn}
    with proxied(dsns[side], **HURRIED) as (proxy, dsn):
        yield proxy, {f"CDC_{side.upper()}_DSN": dsn}


@contextmanager
def locked_for(pair: Pair, seconds: float) -> Iterator[None]:
    """Keep writers out of the target's table while the block runs, and for some time after."""
    with locked(pair.target_admin_dsn):
        yield
        time.sleep(seconds)


def goes_on(pair: Pair) -> None:
    """Wait until more changes arrive than there are."""
    before = rows(pair)
    wait_until(lambda: rows(pair) > before, 40)


def total(dsn: str) -> list[object]:
    """Sum up what updates have counted."""
    return fetch(dsn, "select count(*), sum(balance) from credit.account")

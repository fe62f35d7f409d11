"""Databases that are away, and answers that are lost: the daemon waits, goes on, loses nothing."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from tests.accounts import INSERT, SCHEMA, locked, rows, writing
from tests.databases import fetch, migrate, run_sql, wait_until, waits_for_lock
from tests.pair import Pair, execute, same_rows
from tests.process import STREAMING, all_copied, drain, environment, run_cdc, spawn_cdc, streaming
from tests.servers import AnyServer, stoppable

TARGET_AWAY = "the target is away"
CUT_STREAM = (
    "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = %s"
)
CUT_COPY = (
    "select pg_terminate_backend(pid) from pg_stat_activity"
    " where datname = current_database() and application_name = 'cdc copy'"
)
HANGING = "select pid from pg_stat_activity where wait_event = 'SyncRep'"


@pytest.fixture
def tiny(pair: Pair) -> Pair:
    """Two databases with one empty table; `cdc run` initializes them by itself."""
    migrate(pair, SCHEMA)
    return pair


# More than the sockets between the two hold.
MANY = "insert into credit.account select n, 0, repeat('x', 1000) from generate_series(1, 20000) n"


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_connection_lost_during_the_initial_copy(tiny: Pair, side: str) -> None:
    """The same daemon goes on with a copy that was cut off, and it ends equal."""
    run_sql(tiny.source_dsn, MANY)
    with spawn_cdc(tiny, "run") as daemon:
        with locked(tiny.target_admin_dsn):
            wait_until(lambda: waits_for_lock(tiny.target_admin_dsn))
            run_sql(getattr(tiny, f"{side}_admin_dsn"), CUT_COPY)
        daemon.wait_for_log("trying again")
        wait_until(lambda: all_copied(tiny), 60)
        assert daemon.terminate() == 0, daemon.log()
    assert same_rows(tiny) == {"account": 20000}


def test_a_target_that_is_away_during_the_initial_copy(tiny: Pair) -> None:
    """It is asked again after longer and longer waits, and then the copy goes on."""
    run_sql(tiny.source_dsn, MANY)
    with spawn_cdc(tiny, "run") as daemon:
        with (
            contextlib.suppress(psycopg.OperationalError),  # the lock ends with the server
            locked(tiny.target_admin_dsn),
        ):
            wait_until(lambda: waits_for_lock(tiny.target_admin_dsn))
            stoppable(tiny.target).kill()
        wait_until(lambda: daemon.log().count("trying again") >= 4)
        stoppable(tiny.target).start()
        wait_until(lambda: all_copied(tiny), 60)
        assert daemon.terminate() == 0, daemon.log()
    tries = [json.loads(line) for line in daemon.log().splitlines() if "trying again" in line]
    waits = [float(line["delay_s"]) for line in tries]
    assert waits[3] > 0.7, "0.2 s, doubled thrice, and half of that"
    assert same_rows(tiny) == {"account": 20000}


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_waits_for_a_target_that_is_away(tiny: Pair, end: str) -> None:
    """A target stopped or killed under load is waited for; the stream goes on meanwhile."""
    with writing(tiny), streaming(tiny) as daemon:
        wait_until(lambda: rows(tiny) > 0)
        getattr(stoppable(tiny.target), end)()
        daemon.wait_for_log(TARGET_AWAY)
        time.sleep(1)
        stoppable(tiny.target).start()
        before = rows(tiny)
        wait_until(lambda: rows(tiny) > before)
        assert daemon.log().count(STREAMING) == 1
        assert daemon.terminate() == 0, daemon.log()
    drain(tiny)
    same_rows(tiny)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_reconnects_to_a_source_that_was_away(tiny: Pair, end: str) -> None:
    """A source stopped or killed is waited for, and the stream goes on from the checkpoint."""
    with streaming(tiny) as daemon:
        run_sql(tiny.source_dsn, INSERT, 1, 10)
        getattr(stoppable(tiny.source), end)()
        daemon.wait_for_log("trying again")
        stoppable(tiny.source).start()
        run_sql(tiny.source_dsn, INSERT, 11, 20)
        wait_until(lambda: rows(tiny) == 20)
        assert daemon.terminate() == 0, daemon.log()
    same_rows(tiny)


def test_survives_streams_that_are_cut_off_under_load(tiny: Pair) -> None:
    """However often the source ends the stream, it connects again and nothing is lost."""
    with writing(tiny), streaming(tiny) as daemon:
        for cuts in range(1, 9):
            wait_until(lambda: daemon.log().count(STREAMING) >= cuts)  # noqa: B023
            time.sleep(0.1)
            run_sql(tiny.source_admin_dsn, CUT_STREAM, tiny.slot)
        wait_until(lambda: daemon.log().count(STREAMING) >= 9)
        assert daemon.terminate() == 0, daemon.log()
    drain(tiny)
    same_rows(tiny)


@pytest.mark.parametrize("lost", ["source", "target"])
def test_survives_a_commit_whose_answer_is_lost(tiny: Pair, lost: str) -> None:
    """A connection lost between the target's commit and its answer: applied, and applied once."""
    with streaming(tiny) as daemon:
        with commits_that_hang(tiny.target):
            run_sql(tiny.source_dsn, INSERT, 1, 10)
            wait_until(lambda: bool(fetch(tiny.target_admin_dsn, HANGING)))
            if lost == "source":
                run_sql(tiny.source_admin_dsn, CUT_STREAM, tiny.slot)
                daemon.wait_for_log("trying again")
            else:
                run_sql(tiny.target_admin_dsn, f"select pg_terminate_backend(pid) from ({HANGING})")
        run_sql(tiny.source_dsn, INSERT, 11, 20)
        wait_until(lambda: rows(tiny) == 20 or daemon.process.poll() is not None)
        assert daemon.terminate() == 0, daemon.log()
    same_rows(tiny)
    assert fetch(tiny.target_dsn, "select transactions, changes from cdc.checkpoint") == [2, 20]


def test_a_command_with_an_end_gives_up_on_a_target_that_stays_away(tiny: Pair) -> None:
    """`run --until-current` exits 75 when a database is away for longer than its patience."""
    assert run_cdc(tiny, "init").returncode == 0
    stoppable(tiny.target).stop()
    impatient = "import cdc.daemon; cdc.daemon.PATIENCE_S = 1; from cdc.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", impatient, "run", "--until-current"],
        env=environment(tiny),
        capture_output=True,
        check=False,
        text=True,
        timeout=30,
    )
    assert result.returncode == 75, result.stderr
    assert "trying again" in result.stderr


@contextmanager
def commits_that_hang(server: AnyServer) -> Iterator[None]:
    """Let commits wait for a standby that does not exist: they are done, and not answered."""
    execute(server, "alter system set synchronous_standby_names = 'nobody'")
    execute(server, "select pg_reload_conf()")
    try:
        yield
    finally:
        execute(server, "alter system reset synchronous_standby_names")
        execute(server, "select pg_reload_conf()")

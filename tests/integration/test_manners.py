"""The daemon's manners: it ends when told to, leaves others alone, and never logs a row."""

import json
import signal
import time

import pytest
from psycopg.conninfo import make_conninfo

from cdc.lsn import parse_lsn
from tests.accounts import INSERT, SCHEMA, locked, rows, writing
from tests.databases import (
    checkpoint,
    confirmed,
    fetch,
    migrate,
    run_sql,
    wait_until,
    waits_for_lock,
)
from tests.pair import Pair, same_rows
from tests.process import STREAMING, drain, run_cdc, spawn_cdc, streaming
from tests.servers import stoppable

TARGET_AWAY = "the target is away"
HOLDER = "select active_pid from pg_replication_slots where slot_name = %s"
NOTES = "select note from credit.account"


@pytest.fixture
def tiny(pair: Pair) -> Pair:
    """Two databases with one empty table; `cdc run` initializes them by itself."""
    migrate(pair, SCHEMA)
    return pair


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(tiny: Pair, signum: signal.Signals) -> None:
    """Told to stop, it finishes what it has, confirms that and exits 0."""
    with streaming(tiny) as daemon:
        run_sql(tiny.source_dsn, INSERT, 1, 1000)
        wait_until(lambda: rows(tiny) > 0)
        daemon.process.send_signal(signum)
        assert daemon.process.wait(10) == 0, daemon.log()
    assert parse_lsn(confirmed(tiny)) >= parse_lsn(checkpoint(tiny))
    assert same_rows(tiny) == {"account": 1000}


def test_a_signal_ends_it_under_load(tiny: Pair) -> None:
    """Told to stop while changes keep coming, it exits in time, and the next run goes on."""
    with writing(tiny):
        with streaming(tiny) as daemon:
            wait_until(lambda: rows(tiny) > 0)
            assert daemon.terminate() == 0, daemon.log()
        assert parse_lsn(confirmed(tiny)) >= parse_lsn(checkpoint(tiny))
        assert rows(tiny) > 0
    drain(tiny)
    same_rows(tiny)


def test_a_signal_ends_it_while_the_target_is_away(tiny: Pair) -> None:
    """Told to stop while it waits for the target, it exits 0 in time, and nothing is lost."""
    with streaming(tiny) as daemon:
        stoppable(tiny.target).stop()
        run_sql(tiny.source_dsn, INSERT, 1, 10)
        daemon.wait_for_log(TARGET_AWAY)
        assert daemon.terminate() == 0, daemon.log()
    stoppable(tiny.target).start()
    assert rows(tiny) == 0
    drain(tiny)
    assert same_rows(tiny) == {"account": 10}


def test_a_signal_ends_it_while_the_source_is_away(tiny: Pair) -> None:
    """Told to stop while it waits for the source, it exits 0 in time."""
    with streaming(tiny) as daemon:
        stoppable(tiny.source).stop()
        daemon.wait_for_log("trying again")
        assert daemon.terminate() == 0, daemon.log()


def test_a_signal_ends_it_while_the_target_is_locked(tiny: Pair) -> None:
    """Told to stop while a lock keeps its batch waiting, it gives the batch up and exits 0."""
    with streaming(tiny) as daemon, locked(tiny.target_admin_dsn):
        run_sql(tiny.source_dsn, INSERT, 1, 10)
        wait_until(lambda: waits_for_lock(tiny.target_admin_dsn))
        assert daemon.terminate() == 0, daemon.log()
    assert rows(tiny) == 0
    drain(tiny)
    assert same_rows(tiny) == {"account": 10}


def test_a_signal_ends_it_during_the_initial_copy(tiny: Pair) -> None:
    """Told to stop while it copies, it exits 0 in time, and the next run copies anew."""
    run_sql(tiny.source_dsn, INSERT, 1, 10)
    with locked(tiny.target_admin_dsn), spawn_cdc(tiny, "run") as daemon:
        wait_until(lambda: waits_for_lock(tiny.target_admin_dsn))
        assert daemon.terminate() == 0, daemon.log()
    drain(tiny)
    assert same_rows(tiny) == {"account": 10}


@pytest.mark.parametrize("command", [("init",), ("run", "--until-current")])
def test_a_command_that_is_cut_off_says_so(tiny: Pair, command: tuple[str, ...]) -> None:
    """It was to come to an end and has not: exit 75, and nothing is called ready."""
    run_sql(tiny.source_dsn, INSERT, 1, 10)
    with locked(tiny.target_admin_dsn), spawn_cdc(tiny, *command) as daemon:
        wait_until(lambda: waits_for_lock(tiny.target_admin_dsn))
        assert daemon.terminate() == 75, daemon.log()
        assert "stopped before it was done" in daemon.log()
        assert "ready" not in daemon.stdout.read_text()
    drain(tiny)
    assert same_rows(tiny) == {"account": 10}


def test_a_second_consumer_is_told_who_holds_the_slot(tiny: Pair) -> None:
    """A second daemon names the first by PID and application, and leaves it alone."""
    named = {"CDC_SOURCE_DSN": make_conninfo(tiny.source_dsn, application_name="the first")}
    with spawn_cdc(tiny, "run", env=named) as first:
        first.wait_for_log(STREAMING)
        (holder,) = fetch(tiny.source_dsn, HOLDER, tiny.slot)
        with spawn_cdc(tiny, "run") as second:
            second.wait_for_log(f"PID {holder}, the first")
            run_sql(tiny.source_dsn, INSERT, 1, 10)
            wait_until(lambda: rows(tiny) == 10)
            assert second.terminate() == 0, second.log()
        assert first.terminate() == 0, first.log()


def test_logs_are_json_without_secrets_and_values(tiny: Pair) -> None:
    """Each line of the log is one JSON object; neither a password nor a value is in it."""
    secrets = {
        f"CDC_{side.upper()}_DSN": make_conninfo(dsn, password="swordfish")
        for side, dsn in (("source", tiny.source_dsn), ("target", tiny.target_dsn))
    }
    run_sql(tiny.source_dsn, "insert into credit.account values (1, 0, 'confidential')")
    with streaming(tiny, secrets) as daemon:
        stoppable(tiny.target).stop()
        run_sql(tiny.source_dsn, "update credit.account set note = 'confidential too'")
        daemon.wait_for_log(TARGET_AWAY)
        stoppable(tiny.target).start()
        wait_until(lambda: fetch(tiny.target_dsn, NOTES) == ["confidential too"])
        # A constraint of the target alone: the server's message quotes the row.
        run_sql(tiny.target_dsn, "alter table credit.account add constraint c check (balance < 9)")
        assert daemon.terminate() == 0, daemon.log()
        lines = daemon.log().splitlines()
    assert all({"time", "level", "message"} <= set(json.loads(line)) for line in lines)
    run_sql(tiny.source_dsn, "insert into credit.account values (2, 9, 'confidential')")
    refused = run_cdc(tiny, "run", "--until-current", env=secrets)
    assert refused.returncode == 78
    for text in (*lines, refused.stdout, refused.stderr):
        assert "confidential" not in text
        assert "swordfish" not in text


def test_keepalives_are_answered_while_the_target_is_blocked(tiny: Pair) -> None:
    """A target blocked for three times the source's patience does not cost the stream."""
    hurried = make_conninfo(tiny.source_dsn, options="-c wal_sender_timeout=2000")
    env = {"CDC_SOURCE_DSN": hurried, "CDC_APPLY_MAX_ROWS": "500"}
    with spawn_cdc(tiny, "run", env=env) as daemon:
        daemon.wait_for_log(STREAMING)
        holder = fetch(tiny.source_dsn, HOLDER, tiny.slot)
        with locked(tiny.target_admin_dsn):
            # More batches than wait, so that reading stops.
            for first in range(1, 5):
                run_sql(tiny.source_dsn, INSERT, first * 1000, first * 1000 + 999)
            time.sleep(6)
            assert fetch(tiny.source_dsn, HOLDER, tiny.slot) == holder
        wait_until(lambda: rows(tiny) == 4000)
        assert daemon.log().count(STREAMING) == 1
        assert daemon.terminate() == 0, daemon.log()

"""The daemon's manners: it ends when told to, waits for who is away, and never logs a row."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from cdc.demo.server import Server
from cdc.lsn import Lsn, parse_lsn
from tests.pair import Pair, execute, same_rows
from tests.process import Daemon, environment, run_cdc, spawn_cdc
from tests.servers import AnyServer

SCHEMA = """
create schema credit;
create table credit.account (id int primary key, balance int not null, note text);
"""

STREAMING = '"message":"streaming"'
TARGET_AWAY = "the target is away"

INSERT = (
    "insert into credit.account select n, 0, 'row ' || n from generate_series(%s::int, %s::int) n"
)


@pytest.fixture
def tiny(pair: Pair) -> Pair:
    """Two databases with one empty table; `cdc run` initializes them by itself."""
    for dsn in (pair.source_dsn, pair.target_dsn):
        run_sql(dsn, SCHEMA)
    return pair


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(tiny: Pair, signum: signal.Signals) -> None:
    """Told to stop, it finishes what it has, confirms that and exits 0."""
    with streaming(tiny) as daemon:
        run_sql(tiny.source_dsn, INSERT, 1, 1000)
        wait_until(lambda: rows(tiny) > 0)
        daemon.process.send_signal(signum)
        assert daemon.process.wait(10) == 0, daemon.log()
    assert confirmed(tiny) >= checkpoint(tiny)
    assert same_rows(tiny) == {"account": 1000}


def test_a_signal_ends_it_under_load(tiny: Pair) -> None:
    """Told to stop while changes keep coming, it exits in time, and the next run goes on."""
    with writing(tiny):
        with streaming(tiny) as daemon:
            wait_until(lambda: rows(tiny) > 0)
            assert daemon.terminate() == 0, daemon.log()
        assert confirmed(tiny) >= checkpoint(tiny)
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


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_connection_lost_during_the_initial_copy(tiny: Pair, side: str) -> None:
    """A copy that was cut off is begun again by the same daemon, and ends equal."""
    # More than the sockets between the two hold.
    run_sql(
        tiny.source_dsn,
        "insert into credit.account select n, 0, repeat('x', 1000)"
        " from generate_series(1, 20000) n",
    )
    with spawn_cdc(tiny, "run") as daemon:
        with locked(tiny.target_admin_dsn):
            wait_until(lambda: waits_for_lock(tiny.target_admin_dsn))
            run_sql(getattr(tiny, f"{side}_admin_dsn"), CUT_COPY)
        daemon.wait_for_log("trying again")
        daemon.wait_for_log(STREAMING)
        assert daemon.terminate() == 0, daemon.log()
    assert same_rows(tiny) == {"account": 20000}


def test_a_second_consumer_is_told_who_holds_the_slot(tiny: Pair) -> None:
    """A second daemon names the first by PID and application, and leaves it alone."""
    named = {"CDC_SOURCE_DSN": make_conninfo(tiny.source_dsn, application_name="the first")}
    with spawn_cdc(tiny, "run", env=named) as first:
        first.wait_for_log(STREAMING)
        (holder,) = fetch(tiny.source_dsn, SLOT.format("active_pid"), tiny.slot)
        with spawn_cdc(tiny, "run") as second:
            second.wait_for_log(f"PID {holder}, the first")
            run_sql(tiny.source_dsn, INSERT, 1, 10)
            wait_until(lambda: rows(tiny) == 10)
            assert second.terminate() == 0, second.log()
        assert first.terminate() == 0, first.log()


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


def test_logs_are_json_without_secrets_and_values(tiny: Pair) -> None:
    """Each line of the log is one JSON object; neither a password nor a value is in it."""
    secrets = {
        f"CDC_{side.upper()}_DSN": make_conninfo(dsn, password="swordfish")
        for side, dsn in (("source", tiny.source_dsn), ("target", tiny.target_dsn))
    }
    run_sql(tiny.source_dsn, "insert into credit.account values (1, 0, 'confidential')")
    with spawn_cdc(tiny, "run", env=secrets) as daemon:
        daemon.wait_for_log(STREAMING)
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
        holder = fetch(tiny.source_dsn, SLOT.format("active_pid"), tiny.slot)
        with locked(tiny.target_admin_dsn):
            # More batches than wait, so that reading stops.
            for first in range(1, 5):
                run_sql(tiny.source_dsn, INSERT, first * 1000, first * 1000 + 999)
            time.sleep(6)
            assert fetch(tiny.source_dsn, SLOT.format("active_pid"), tiny.slot) == holder
        wait_until(lambda: rows(tiny) == 4000)
        assert daemon.log().count(STREAMING) == 1
        assert daemon.terminate() == 0, daemon.log()


SLOT = "select {} from pg_replication_slots where slot_name = %s"
NOTES = "select note from credit.account"
CUT_STREAM = (
    "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = %s"
)
CUT_COPY = (
    "select pg_terminate_backend(pid) from pg_stat_activity"
    " where datname = current_database() and application_name = 'cdc snapshot'"
)
HANGING = "select pid from pg_stat_activity where wait_event = 'SyncRep'"


def run_sql(dsn: str, statements: str, *parameters: object) -> None:
    """Run statements in one transaction."""
    with psycopg.connect(dsn) as connection:
        connection.execute(statements, parameters or None)


def fetch(dsn: str, query: str, *parameters: object) -> list[object]:
    """Give the values of a query's rows, one after the other."""
    with psycopg.connect(dsn) as connection:
        return [value for row in connection.execute(query, parameters or None) for value in row]


def rows(pair: Pair) -> int:
    """Count the rows on the target."""
    return len(fetch(pair.target_dsn, "select id from credit.account"))


def confirmed(pair: Pair) -> Lsn:
    """Give what the slot was confirmed up to."""
    (lsn,) = fetch(pair.source_dsn, SLOT.format("confirmed_flush_lsn"), pair.slot)
    return parse_lsn(str(lsn))


def checkpoint(pair: Pair) -> Lsn:
    """Give what the target says that it holds."""
    (lsn,) = fetch(pair.target_dsn, "select lsn from cdc.checkpoint where slot = %s", pair.slot)
    return parse_lsn(str(lsn))


def wait_until(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    """Wait for a condition to hold."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not in {timeout_s} s"
        time.sleep(0.05)


@contextmanager
def streaming(pair: Pair) -> Iterator[Daemon]:
    """Run the daemon, past its initial copy."""
    with spawn_cdc(pair, "run") as daemon:
        daemon.wait_for_log(STREAMING)
        yield daemon


def drain(pair: Pair) -> None:
    """Bring the target up to date."""
    result = run_cdc(pair, "run", "--until-current")
    assert result.returncode == 0, result.stderr


@contextmanager
def writing(pair: Pair) -> Iterator[None]:
    """Write small transactions, one after the other, until the block is left."""
    done = threading.Event()

    def write() -> None:
        with psycopg.connect(pair.source_dsn) as source:
            for n in range(1, 1_000_000):
                source.execute(INSERT, (n * 10, n * 10 + 9))
                source.execute("update credit.account set balance = %s where id %% 7 = 3", (n,))
                source.commit()
                if done.wait(0.005):
                    return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        done.set()
        writer.join()


@contextmanager
def locked(dsn: str) -> Iterator[None]:
    """Keep writers, not readers, out of the table."""
    with psycopg.connect(dsn) as connection:
        connection.execute("lock table credit.account in share mode")
        yield


def waits_for_lock(dsn: str) -> bool:
    """Tell whether a session of this database waits for a lock."""
    query = (
        "select pid from pg_stat_activity"
        " where datname = current_database() and wait_event_type = 'Lock'"
    )
    return bool(fetch(dsn, query))


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


def stoppable(server: AnyServer) -> Server:
    """Give a server that the test may stop and start; skip where it runs in a container."""
    if not isinstance(server, Server):
        pytest.skip("a server in a container is not ours to stop")
    return server

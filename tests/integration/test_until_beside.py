"""A command with an end beside the daemon: that one does it, and the command says when."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from cdc.demo.installation import find_embedded
from cdc.lsn import parse_lsn
from tests.accounts import INSERT, SCHEMA, rows
from tests.databases import checkpoint, fetch, migrate, run_sql, wait_until
from tests.pair import Pair, same_rows
from tests.process import last_words, ok, run_cdc, spawn_cdc, streaming

WAITS = "another daemon streams"

HURRIED = """
import cdc.daemon
from cdc.cli import main
cdc.daemon.PATIENCE_S = 2.0
main()
"""


@pytest.fixture
def tiny(pair: Pair) -> Pair:
    """Two databases with one empty table."""
    migrate(pair, SCHEMA)
    return pair


@contextmanager
def locked(pair: Pair) -> Iterator[Callable[[], None]]:
    """Let nobody write the target's table until the end, or until what is given is called."""
    with psycopg.connect(pair.target_dsn) as target:
        target.execute("lock table credit.account in share mode")
        yield target.commit


def test_beside_an_idle_daemon(tiny: Pair) -> None:
    """Done within seconds, though nothing is published; the daemon is named, and goes on."""
    with streaming(tiny) as daemon:
        for _ in range(2):
            run_sql(tiny.source_dsn, "create table public.other (); drop table public.other")
            result = ok(tiny, "run", "--until-current", timeout_s=30)
            assert f"slot {tiny.slot} is in use by PID" in result.stderr
        run_sql(tiny.source_dsn, INSERT, 1, 10)
        wait_until(lambda: rows(tiny) == 10)
        assert daemon.terminate() == 0, daemon.log()
    assert same_rows(tiny) == {"account": 10}


@pytest.mark.parametrize("until", ["current", "lsn"])
def test_beside_a_daemon_that_is_behind(tiny: Pair, until: str) -> None:
    """Not before all of it is on the target: who locks the table there holds up both."""
    with streaming(tiny) as daemon:
        with locked(tiny) as release:
            run_sql(tiny.source_dsn, INSERT, 1, 10)
            (lsn,) = fetch(tiny.source_dsn, "select pg_current_wal_lsn()::text")
            end = ("--until-current",) if until == "current" else ("--until-lsn", str(lsn))
            with spawn_cdc(tiny, "run", *end) as command:
                command.wait_for_log(WAITS)
                with pytest.raises(subprocess.TimeoutExpired):
                    command.process.wait(3)
                release()
                assert command.process.wait(20) == 0, command.log()
                assert rows(tiny) == 10
                assert parse_lsn(checkpoint(tiny)) >= parse_lsn(str(lsn))
        assert daemon.terminate() == 0, daemon.log()


def test_a_daemon_that_ends_meanwhile(tiny: Pair) -> None:
    """The command goes on by itself, from another state directory too."""
    with streaming(tiny) as daemon, locked(tiny) as release:
        run_sql(tiny.source_dsn, INSERT, 1, 10)
        env = {"CDC_STATE_DIR": str(tiny.state_dir / "other")}
        with spawn_cdc(tiny, "run", "--until-current", env=env) as command:
            command.wait_for_log(WAITS)
            daemon.kill()
            release()
            assert command.process.wait(30) == 0, command.log()
    assert same_rows(tiny) == {"account": 10}


def test_init_beside_a_daemon_that_copies(tiny: Pair) -> None:
    """`init` is ready when the daemon's copy is complete."""
    run_sql(tiny.source_dsn, INSERT, 1, 20_000)
    env = {"CDC_SNAPSHOT_CHUNK_BYTES": "8192", "CDC_SNAPSHOT_WORKERS": "1"}
    with spawn_cdc(tiny, "run", env=env) as daemon:
        daemon.wait_for_log("streaming")
        result = ok(tiny, "init", timeout_s=60)
        assert rows(tiny) == 20_000
        assert "ready" in result.stdout
        assert daemon.terminate() == 0, daemon.log()


def test_beside_a_reader_that_is_no_daemon(tiny: Pair) -> None:
    """Who takes changes and brings them nowhere is named at once, and after a while it is 75."""
    ok(tiny, "init")
    reader = find_embedded().bin_dir / "pg_recvlogical"
    with subprocess.Popen(
        [
            reader,
            f"--dbname={tiny.source_dsn}",
            f"--slot={tiny.slot}",
            "--start",
            "--file=/dev/null",
            "--option=proto_version=1",
            f"--option=publication_names={tiny.publication}",
        ]
    ) as reading:
        try:
            active = "select active from pg_replication_slots where slot_name = %s"
            wait_until(lambda: fetch(tiny.source_dsn, active, tiny.slot) == [True])
            run_sql(tiny.source_dsn, INSERT, 1, 10)
            with spawn_cdc(tiny, "run", "--until-current", script=HURRIED) as command:
                command.wait_for_log("pg_recvlogical", 10)
                assert command.process.wait(30) == 75, command.log()
                assert f"slot {tiny.slot} is in use by PID" in last_words(command.log())
        finally:
            reading.terminate()
    assert run_cdc(tiny, "lag").returncode == 0

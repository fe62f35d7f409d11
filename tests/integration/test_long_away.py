"""A target that is away for long: memory stays flat, and the source's WAL is watched."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.accounts import SCHEMA
from tests.databases import fetch, migrate, run_sql, wait_until
from tests.pair import Pair, execute, same_rows
from tests.process import Daemon, all_copied, drain, environment, streaming
from tests.servers import stoppable
from tests.spooling import QUEUEING, SPOOL, wait_until_let_go

SMALL_BATCHES = {"CDC_APPLY_MAX_BYTES": "1000000", "CDC_APPLY_MAX_ROWS": "1000"}
ROOMY = {"CDC_SPOOL_MAX_BYTES": "1000000000"}
MB = 1 << 20


@pytest.fixture
def tiny(pair: Pair) -> Pair:
    """Two databases with one empty table; `cdc run` initializes them by itself."""
    migrate(pair, SCHEMA)
    return pair


@pytest.mark.parametrize("spool", [False, True])
def test_memory_stays_flat(tiny: Pair, *, spool: bool) -> None:
    """Sixty megabytes come while the target is away: in the WAL or the spool they stay."""
    settings = SMALL_BATCHES | (SPOOL | ROOMY if spool else {})
    with streaming(tiny, settings) as daemon:
        stoppable(tiny.target).stop()
        insert(tiny, 10)
        daemon.wait_for_log(QUEUEING if spool else "the target is away")
        before = peak_bytes(daemon)
        for _ in range(6):
            insert(tiny, 10_000)
        if spool:
            wait_until_let_go(tiny)
        assert peak_bytes(daemon) - before < 40 * MB
        stoppable(tiny.target).start()
        wait_until(lambda: fetch(tiny.target_dsn, COUNT) == [60_010], timeout_s=60)
        assert peak_bytes(daemon) - before < 60 * MB
        assert daemon.terminate() == 0, daemon.log()
    drain(tiny)
    same_rows(tiny)


def test_warned_before_the_slot_is_lost(tiny: Pair) -> None:
    """At half and at four fifths of what the source keeps, with bytes and time that are left."""
    with limited_wal(tiny, "64MB"), watching(tiny, {}) as daemon:
        stoppable(tiny.target).stop()
        insert(tiny, 10)
        daemon.wait_for_log("the target is away")
        fill(tiny, 0.55)
        wait_until(lambda: bool(budget(daemon, "warning")))
        said = budget(daemon, "warning")
        assert 50 <= said[0]["used_percent"] < 80
        assert 0 < said[0]["bytes_left"] < 40 * MB
        assert said[0]["bytes_per_second"] > 0
        assert said[0]["seconds_left"] >= 0
        fill(tiny, 0.85)
        wait_until(lambda: bool(budget(daemon, "error")))
        said = budget(daemon, "error")
        assert said[0]["used_percent"] >= 80
        assert len(budget(daemon, "warning")) == 1
        stoppable(tiny.target).start()
        wait_until_let_go(tiny)
        assert daemon.terminate() == 0, daemon.log()
    drain(tiny)
    same_rows(tiny)


def test_a_spool_saves_the_slot(tiny: Pair) -> None:
    """More than the source keeps is written while the target is away, and the slot is not lost."""
    with limited_wal(tiny, "32MB"), watching(tiny, SPOOL | ROOMY) as daemon:
        stoppable(tiny.target).stop()
        insert(tiny, 10)
        daemon.wait_for_log(QUEUEING)
        for _ in range(5):
            insert(tiny, 10_000)
            run_sql(tiny.source_admin_dsn, "checkpoint")
            wait_until_let_go(tiny)
        assert budget(daemon, "error") == []
        stoppable(tiny.target).start()
        daemon.wait_for_log("all that was queued is applied")
        assert daemon.terminate() == 0, daemon.log()
    drain(tiny)
    assert same_rows(tiny) == {"account": 50_010}


COUNT = "select count(*) from credit.account"


def insert(pair: Pair, count: int) -> None:
    """Insert rows of about a kilobyte."""
    run_sql(
        pair.source_dsn,
        "insert into credit.account select n + coalesce(m, 0), 0, repeat(md5(n::text), 30)"
        " from generate_series(1, %s::int) n, (select max(id) m from credit.account) t",
        count,
    )


def fill(pair: Pair, share: float) -> None:
    """Write until the slot holds back so much of what the source keeps for it."""
    used = (
        "select retained / (retained + safe_wal_size) > %s from pg_replication_slots,"
        " lateral (select pg_current_wal_lsn() - restart_lsn as retained) r where slot_name = %s"
    )
    while fetch(pair.source_dsn, used, share, pair.slot) != [True]:
        insert(pair, 3000)


def peak_bytes(daemon: Daemon) -> int:
    """Give the most memory that the daemon has had."""
    status = Path("/proc", str(daemon.process.pid), "status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) << 10


def budget(daemon: Daemon, level: str) -> list[dict[str, float]]:
    """Give what the daemon has said of the WAL that is left."""
    lines = [json.loads(line) for line in daemon.log().splitlines() if line.startswith("{")]
    return [line for line in lines if "seconds_left" in line and line["level"] == level]


@contextmanager
def limited_wal(pair: Pair, size: str) -> Iterator[None]:
    """Let the source keep only so much WAL for a slot."""
    execute(pair.source, f"alter system set max_slot_wal_keep_size = '{size}'")
    execute(pair.source, "select pg_reload_conf()")
    try:
        yield
    finally:
        execute(pair.source, "alter system reset max_slot_wal_keep_size")
        execute(pair.source, "select pg_reload_conf()")


@contextmanager
def watching(pair: Pair, env: Mapping[str, str]) -> Iterator[Daemon]:
    """Run a daemon that looks at the source's WAL more often than it would."""
    eager = (
        "import cdc.sync.lookout as l; l.LOOK_INTERVAL_S = l.TABLES_INTERVAL_S = 0.1;"
        "from cdc.cli import main; main()"
    )
    log = pair.state_dir.parent / "watching.stderr"
    with (
        log.open("wb") as stderr,
        subprocess.Popen(
            [sys.executable, "-c", eager, "run"],
            env=environment(pair, env),
            stdin=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        ) as process,
    ):
        try:
            daemon = Daemon(process, log, log)
            daemon.wait_for_log('"message":"streaming"')
            wait_until(lambda: all_copied(pair))
            yield daemon
        finally:
            process.kill()

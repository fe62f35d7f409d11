"""Idle costs nothing on the target, and nothing on the source's disk."""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo

from cdc.lsn import parse_lsn
from tests.databases import checkpoint, confirmed, fetch, migrate, run_sql, wait_until
from tests.pair import Pair, same_rows
from tests.process import Daemon, drain, ok, run_cdc, streaming

IMPATIENT = {"CDC_TARGET_IDLE_DISCONNECT": "1"}

# A running-xacts record now and then is in no transaction and waits for the next keepalive.
FEW_BYTES = 4096

SCHEMA = """
create schema credit;
create table credit.account (id int primary key, balance int not null);
"""


@pytest.fixture
def tiny(pair: Pair) -> Pair:
    """Two databases with one empty table, and on the source one that is not copied."""
    migrate(pair, SCHEMA)
    run_sql(pair.source_dsn, "create table public.foreign_wal as select ''::text as body")
    return pair


def test_an_idle_daemon_leaves_the_target_alone(tiny: Pair) -> None:
    """No session on the target while other WAL is written, and that WAL is confirmed."""
    with idle(tiny) as daemon:
        before = sessions_so_far(tiny)
        started = parse_lsn(confirmed(tiny))
        for _ in range(30):
            write_foreign_wal(tiny)
            assert sessions(tiny) == []
            time.sleep(0.1)
        wait_until(lambda: parse_lsn(confirmed(tiny)) - started > 30 * 50_000)
        wait_until(lambda: lag_bytes(tiny) <= FEW_BYTES)
        # Not even one that came and went.
        assert sessions_so_far(tiny) == before
        assert daemon.terminate() == 0, daemon.log()


def test_an_idle_daemon_costs_no_processor(tiny: Pair) -> None:
    """Three seconds without changes take a fraction of one of a processor."""
    with idle(tiny) as daemon:
        before = processor_s(daemon)
        time.sleep(3)
        assert processor_s(daemon) - before < 0.6
        assert daemon.terminate() == 0, daemon.log()


def test_a_change_ends_the_idleness(tiny: Pair) -> None:
    """A change after an idle time is applied within seconds, by a new session."""
    with idle(tiny) as daemon:
        write_foreign_wal(tiny)
        run_sql(tiny.source_dsn, "insert into credit.account values (1, 1)")
        wait_until(lambda: same_rows_now(tiny))
        wait_until(lambda: sessions(tiny) == [])
        run_sql(tiny.source_dsn, "update credit.account set balance = 2")
        wait_until(lambda: same_rows_now(tiny))
        assert daemon.terminate() == 0, daemon.log()


def test_a_restart_after_an_idle_time_goes_on(tiny: Pair) -> None:
    """What was confirmed idle is noted on disk, so that the next daemon knows of no gap."""
    run_sql(tiny.source_dsn, "insert into credit.account values (1, 1)")
    with idle(tiny) as daemon:
        write_foreign_wal(tiny)
        wait_until(lambda: lag_bytes(tiny) <= FEW_BYTES)
        daemon.kill()
    (file,) = tiny.state_dir.iterdir()
    pair = json.loads(file.read_bytes())
    assert (pair["slot"], pair["checkpoint"]) == (tiny.slot, checkpoint(tiny))
    assert pair["checkpoint"] != pair["idle_confirmed"]
    run_sql(tiny.source_dsn, "insert into credit.account values (2, 2)")
    for _ in range(2):
        drain(tiny)
        assert same_rows(tiny) == {"account": 2}


def test_the_checkpoint_stays_while_nothing_is_published(tiny: Pair) -> None:
    """Other WAL, however much is confirmed of it, writes nothing on the target."""
    with idle(tiny) as daemon:
        before = checkpoint(tiny)
        write_foreign_wal(tiny)
        wait_until(lambda: lag_bytes(tiny) <= FEW_BYTES)
        assert checkpoint(tiny) == before
        assert daemon.terminate() == 0, daemon.log()
    assert checkpoint(tiny) == before


def test_lag_asks_the_source_alone(tiny: Pair) -> None:
    """`cdc lag` does not even knock at the target, which would wake it; with --target it does."""
    ok(tiny, "init")
    with socket.create_server(("127.0.0.1", 0)) as target:
        target.settimeout(0.1)
        port = target.getsockname()[1]
        env = {"CDC_TARGET_DSN": make_conninfo(tiny.target_dsn, port=port, connect_timeout=2)}
        result = run_cdc(tiny, "lag", env=env)
        assert result.returncode == 0, result.stderr
        with pytest.raises(TimeoutError):
            target.accept()
        assert run_cdc(tiny, "lag", "--target", env=env).returncode == 75
        target.accept()[0].close()


@contextmanager
def idle(pair: Pair) -> Iterator[Daemon]:
    """Run a daemon that has given its session on the target back."""
    with streaming(pair, IMPATIENT) as daemon:
        wait_until(lambda: sessions(pair) == [])
        yield daemon


def processor_s(daemon: Daemon) -> float:
    """Give how long a processor has worked for the daemon."""
    stat = Path(f"/proc/{daemon.process.pid}/stat")
    if not stat.exists():
        pytest.skip("no /proc to look it up in")
    user, system = stat.read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def sessions(pair: Pair) -> list[object]:
    """Give the sessions on the target's database, asked for in another database."""
    query = "select application_name from pg_stat_activity where datname = %s"
    return fetch(pair.target.conninfo(), query, pair.slot)


def sessions_so_far(pair: Pair) -> list[object]:
    """Give how many sessions the target's database has seen."""
    query = "select sessions from pg_stat_database where datname = %s"
    return fetch(pair.target.conninfo(), query, pair.slot)


def write_foreign_wal(pair: Pair) -> None:
    """Write some WAL of which nothing is published."""
    run_sql(
        pair.source_dsn,
        "insert into public.foreign_wal"
        " select string_agg(md5(random()::text), '') from generate_series(1, 2000)",
    )


def lag_bytes(pair: Pair) -> int:
    """Give what `cdc lag` says."""
    return int(json.loads(run_cdc(pair, "lag", "--json").stdout)["lag_bytes"])


def same_rows_now(pair: Pair) -> bool:
    """Tell whether both sides are equal at this moment."""
    try:
        same_rows(pair)
    except AssertionError:
        return False
    return True

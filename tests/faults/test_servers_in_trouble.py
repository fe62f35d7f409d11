"""Servers that are there and cannot: full, read-only, out of connections, or against us.

Each is judged in the one table of `cdc.backoff`. What passes by itself, or is mended while the
daemon waits, is tried again until it works, by the same daemon and without loss. Neither a row's
value nor a password is in what is said about it.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.accounts import SCHEMA, locked, rows
from tests.databases import confirmed, fetch, migrate, run_sql, wait_until, waits_for_lock
from tests.faults.mount import tiny_disk
from tests.pair import Pair, execute, same_rows
from tests.process import Daemon, environment, ok, streaming
from tests.servers import stoppable

AWAY = "trying again"
WAITING = "select pid from pg_stat_activity where datname = %s and wait_event_type = 'Lock'"
END_OTHERS = (
    "select pg_terminate_backend(pid) from pg_stat_activity"
    " where datname = '{database}' and pid <> pg_backend_pid()"
)
WRITE = (
    "insert into credit.account select n, 0, 'confidential ' || n"
    " from generate_series(%s::int, %s::int) n"
)


@dataclass(frozen=True, slots=True)
class Trouble:
    """What goes wrong, as statements of a superuser: {database} is the pair's."""

    side: Literal["source", "target"]
    begin: str
    end: str
    exit_code: int = 75
    hint: str = "try again"
    """What a command says that does not wait for the end of it."""


TROUBLES = {
    "read-only target": Trouble(
        "target",
        "alter database {database} set default_transaction_read_only = on",
        "alter database {database} reset default_transaction_read_only",
        exit_code=78,
        hint="set default_transaction_read_only = off",
    ),
    "target out of connections": Trouble(
        "target",
        "alter database {database} connection limit 0",
        "alter database {database} connection limit -1",
    ),
    "source out of connections": Trouble(
        "source",
        "alter database {database} connection limit 0",
        "alter database {database} connection limit -1",
    ),
    "target takes no connections": Trouble(
        "target",
        "alter database {database} allow_connections false",
        "alter database {database} allow_connections true",
    ),
}
on_each_trouble = pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES)


@pytest.fixture
def tiny(pair: Pair) -> Pair:
    """Two databases with one table of three rows; their connections carry a password."""
    migrate(pair, SCHEMA)
    run_sql(pair.source_dsn, WRITE, 1, 3)
    return pair


@on_each_trouble
def test_trouble_that_is_mended(tiny: Pair, trouble: Trouble) -> None:
    """The daemon says what is wrong, goes on trying, and goes on when it is mended."""
    with watched(tiny) as daemon:
        with trouble_on(tiny, trouble):
            run_sql(tiny.source_admin_dsn, WRITE, 4, 9)
            daemon.wait_for_log(AWAY)
        wait_until(lambda: rows(tiny) == 9)
    assert same_rows(tiny) == {"account": 9}


@on_each_trouble
def test_trouble_that_outlasts_a_command(tiny: Pair, trouble: Trouble) -> None:
    """`run --until-current` gives up after its patience, or at once; and says what to do."""
    ok(tiny, "run", "--until-current")
    impatient = "import cdc.daemon; cdc.daemon.PATIENCE_S = 1; from cdc.cli import main; main()"
    with trouble_on(tiny, trouble):
        run_sql(tiny.source_admin_dsn, WRITE, 4, 9)
        result = subprocess.run(
            [sys.executable, "-c", impatient, "run", "--until-current"],
            env=environment(tiny, secrets(tiny)),
            capture_output=True,
            check=False,
            text=True,
            timeout=60,
        )
    assert result.returncode == trouble.exit_code, result.stderr
    assert trouble.hint in result.stderr
    assert "confidential" not in result.stderr


@pytest.mark.parametrize("side", ["source", "target"])
def test_restarts_in_mid_stream(tiny: Pair, side: Literal["source", "target"]) -> None:
    """A server that is restarted for its maintenance, twice, is waited for."""
    with watched(tiny) as daemon:
        for n in range(1, 3):
            run_sql(tiny.source_dsn, WRITE, n * 1000, n * 1000 + 999)
            stoppable(getattr(tiny, side)).restart()
            # An idle session on the target is missed with the next change only.
            run_sql(tiny.source_dsn, WRITE, n * 10, n * 10 + 6)
            wait_until(lambda: rows(tiny) == 3 + n * 1007)  # noqa: B023
        assert AWAY in daemon.log()
    same_rows(tiny)


def test_a_statement_that_is_cancelled(tiny: Pair) -> None:
    """Somebody cancels what the daemon does on the target: it does it again."""
    with watched(tiny) as daemon:
        with locked(tiny.target_admin_dsn):
            run_sql(tiny.source_dsn, WRITE, 4, 9)
            wait_until(lambda: waits_for_lock(tiny.target_admin_dsn))
            cancel = f"select pg_cancel_backend(pid) from ({WAITING})"
            run_sql(tiny.target_admin_dsn, cancel, tiny.slot)
            daemon.wait_for_log("QueryCanceled (57014)")
        wait_until(lambda: rows(tiny) == 9)
    same_rows(tiny)


def test_timeouts_of_a_role_do_not_concern_us(tiny: Pair) -> None:
    """Neither a statement nor an idle or open transaction is cut off by what a database sets."""
    for dsn in (tiny.source_admin_dsn, tiny.target_admin_dsn):
        for setting in ("statement_timeout", "lock_timeout", "idle_session_timeout"):
            run_sql(dsn, f"alter database {tiny.slot} set {setting} = '200ms'")
    with watched(tiny) as daemon:
        with locked(make_conninfo(tiny.target_admin_dsn, options="-c idle_session_timeout=0")):
            run_sql(tiny.source_dsn, WRITE, 4, 9)
            time.sleep(1)
        wait_until(lambda: rows(tiny) == 9)
        assert AWAY not in daemon.log()
    same_rows(tiny)


def test_a_deadlock(tiny: Pair) -> None:
    """Chosen as the victim of a deadlock on the target, it tries again, and all is there."""
    with watched(tiny) as daemon, psycopg.connect(tiny.target_admin_dsn) as other:
        # So that the daemon, which looks after one second, is the one to give way.
        other.execute("set deadlock_timeout = '60s'")
        other.execute("select from credit.account where id = 3 for update")
        run_sql(tiny.source_dsn, "update credit.account set balance = 1 where id in (1, 3)")
        wait_until(lambda: waits_for_lock(tiny.target_admin_dsn))
        other.execute("select from credit.account where id = 1 for update")
        daemon.wait_for_log("DeadlockDetected (40P01)")
        other.rollback()
        wait_until(lambda: balances(tiny) == [1, 0, 1])
    same_rows(tiny)


def test_a_serialization_failure(tiny: Pair) -> None:
    """Where the target's default is repeatable read, a conflict is tried again."""
    execute(
        tiny.target,
        f"alter database {tiny.slot} set default_transaction_isolation = 'repeatable read'",
    )
    with watched(tiny) as daemon, psycopg.connect(tiny.target_admin_dsn) as other:
        other.execute("update credit.account set balance = 5 where id = 2")
        run_sql(tiny.source_dsn, "update credit.account set balance = 1")
        wait_until(lambda: waits_for_lock(tiny.target_admin_dsn))
        other.commit()
        daemon.wait_for_log("SerializationFailure (40001)")
        wait_until(lambda: balances(tiny) == [1, 1, 1])
    same_rows(tiny)


def test_a_target_whose_disk_is_full(tiny: Pair, tmp_path: Path) -> None:
    """A table that cannot grow is waited for until there is room for it."""
    with tiny_disk(tmp_path / "disk", owner=stoppable(tiny.target).data_dir) as disk:
        execute(tiny.target, f"create tablespace {tiny.slot} location '{disk.path}'")
        run_sql(tiny.target_admin_dsn, f"alter table credit.account set tablespace {tiny.slot}")
        try:
            with watched(tiny) as daemon:
                run_sql(
                    tiny.source_dsn,
                    "insert into credit.account select n, 0, repeat('confidential', 60)"
                    " from generate_series(4, 9000) n",
                )
                daemon.wait_for_log("DiskFull (53100)")
                disk.grow()
                wait_until(lambda: rows(tiny) == 9000)
            same_rows(tiny)
        finally:
            run_sql(tiny.target_admin_dsn, "drop table credit.account")
            execute(tiny.target, f"drop tablespace {tiny.slot}")


def test_a_state_directory_whose_disk_is_full(tiny: Pair) -> None:
    """Changes go on; WAL of others is confirmed again as soon as there is room to note it."""
    run_sql(tiny.source_dsn, "create table public.foreign_wal as select ''::text as body")
    with tiny_disk(tiny.state_dir) as disk, watched(tiny) as daemon:
        (disk.path / "filler").write_bytes(bytes(disk.free))
        before = confirmed(tiny)
        for _ in range(2):
            run_sql(tiny.source_dsn, "insert into public.foreign_wal values (repeat('x', 9000))")
            time.sleep(0.6)
        daemon.wait_for_log("the state directory cannot be written to")
        run_sql(tiny.source_dsn, WRITE, 4, 9)
        wait_until(lambda: rows(tiny) == 9)
        (disk.path / "filler").unlink()
        run_sql(tiny.source_dsn, "insert into public.foreign_wal values ('x')")
        wait_until(lambda: confirmed(tiny) != before and any(disk.path.glob("*.json")))
    same_rows(tiny)


@contextmanager
def watched(pair: Pair) -> Iterator[Daemon]:
    """Run a daemon that ends in order, and has said nothing that is not for a log."""
    with streaming(pair, secrets(pair)) as daemon:
        wait_until(lambda: rows(pair) == 3)
        yield daemon
        assert daemon.terminate() == 0, daemon.log()
        assert "confidential" not in daemon.log()
        assert "swordfish" not in daemon.log()


def secrets(pair: Pair) -> dict[str, str]:
    """Give DSNs with a password, which nobody asks for."""
    return {
        f"CDC_{side.upper()}_DSN": make_conninfo(dsn, password="swordfish")
        for side, dsn in (("source", pair.source_dsn), ("target", pair.target_dsn))
    }


@contextmanager
def trouble_on(pair: Pair, trouble: Trouble) -> Iterator[None]:
    """Let trouble begin for new sessions, and end those that there are."""
    server = getattr(pair, trouble.side)
    execute(server, trouble.begin.format(database=pair.slot))
    execute(server, END_OTHERS.format(database=pair.slot))
    try:
        yield
    finally:
        execute(server, trouble.end.format(database=pair.slot))


def balances(pair: Pair) -> list[object]:
    """Give the balances on the target, in order."""
    return fetch(pair.target_dsn, "select balance from credit.account order by id")

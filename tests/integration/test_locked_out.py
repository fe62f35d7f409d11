"""Commands that meet a table which somebody has for himself: they say who, and wait no longer."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import psycopg
import pytest

from tests.accounts import INSERT, SCHEMA, rows
from tests.databases import migrate, run_sql, wait_until
from tests.pair import Pair
from tests.process import STREAMING, ok, run_cdc, spawn_cdc

Side = Literal["source", "target"]

on_each_side = pytest.mark.parametrize("side", ["source", "target"])


@pytest.fixture
def tiny(pair: Pair) -> Pair:
    """Two databases with one table, and a row on the source."""
    migrate(pair, SCHEMA)
    run_sql(pair.source_dsn, INSERT, 1, 1)
    return pair


@contextmanager
def locked(pair: Pair, side: Side, mode: str = "access exclusive") -> Iterator[int]:
    """Lock the table, and give the PID of who does."""
    dsn = pair.source_dsn if side == "source" else pair.target_dsn
    with psycopg.connect(dsn, application_name="a migration") as connection:
        connection.execute(f"lock table credit.account in {mode} mode".encode())
        connection.execute("select where 'confidential' is null")
        yield connection.info.backend_pid


@on_each_side
def test_a_check_of_a_locked_table(tiny: Pair, side: Side) -> None:
    """It gives up after some seconds: 75, by whom, what that runs, and what ends it."""
    ok(tiny, "init")
    with locked(tiny, side) as pid:
        result = run_cdc(tiny, "check", timeout_s=30)
    assert (result.returncode, result.stdout) == (75, "")
    assert "credit.account (AccessShareLock)" in result.stderr
    assert f"PID {pid} (a migration, " in result.stderr
    assert "last ran `select where '…' is null`" in result.stderr
    assert f"pg_terminate_backend({pid});  -- on the {side}" in result.stderr
    assert ok(tiny, "check").returncode == 0


def test_a_table_that_is_to_be_altered(tiny: Pair) -> None:
    """Who writes to the target's table holds up what makes it ready: said, and given up."""
    run_sql(
        tiny.target_dsn,
        "create function credit.touch() returns trigger"
        " language plpgsql as 'begin return new; end';"
        " create trigger touch before update on credit.account"
        " for each row execute function credit.touch()",
    )
    with locked(tiny, "target", "row exclusive") as pid:
        result = run_cdc(tiny, "init", "--no-snapshot", timeout_s=30)
    assert result.returncode == 75
    assert f"PID {pid} (a migration, " in result.stderr
    ok(tiny, "init", "--no-snapshot")


@on_each_side
@pytest.mark.parametrize("command", ["init", "run"])
def test_a_start_before_a_locked_table(tiny: Pair, command: str, side: Side) -> None:
    """It is tried again, with a word of who is in the way each time, and goes on once that ends."""
    with spawn_cdc(tiny, command) as daemon:
        with locked(tiny, side) as pid:
            daemon.wait_for_log(f"PID {pid} (a migration, ")
            assert STREAMING not in daemon.log()
        wait_until(lambda: rows(tiny) == 1, 60)
        assert (daemon.process.wait(30) if command == "init" else daemon.terminate()) == 0

"""`cdc verify`: exact equality at one LSN, while both sides are written to."""

import json
import time

import pytest

from tests.accounts import INSERT, SCHEMA, writing
from tests.databases import fetch, migrate, run_sql, wait_until
from tests.pair import Pair, same_rows
from tests.process import ok, run_cdc, spawn_cdc, streaming


def prepare(pair: Pair, rows: int = 1000) -> None:
    """Make the table, rows in it, and the copy."""
    migrate(pair, SCHEMA)
    run_sql(pair.source_dsn, INSERT, -rows, -1)
    ok(pair, "init")


def test_equal_at_one_lsn_under_writes(pair: Pair) -> None:
    """Rows come and change all the while, and each time both sides are found to be the same."""
    prepare(pair)
    with streaming(pair) as daemon, writing(pair):
        for _ in range(3):
            result = run_cdc(pair, "verify", "--json")
            assert result.returncode == 0, result.stderr
            print(result.stdout, result.stderr)
            found = json.loads(result.stdout)
        print(daemon.log())

"""Changes gathered and applied in bursts, so that Neon, billed by the second, sleeps between."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from tests.accounts import SCHEMA
from tests.databases import fetch, migrate, run_sql, wait_until
from tests.pair import Pair, same_rows
from tests.process import drain, ok, spawn_cdc, streaming

INTERVAL_S = 3
BURSTS = {"CDC_APPLY_FLUSH_INTERVAL": str(INTERVAL_S)}
SESSIONS = (
    "select count(*)::int from pg_stat_activity"
    " where datname = current_database() and application_name like 'cdc%%'"
)


def test_one_burst_for_an_interval(pair: Pair) -> None:
    """Hundreds of transactions become a few of the target, with no session in between."""
    prepare(pair)
    with streaming(pair, BURSTS) as daemon:
        before = moves(pair)
        with psycopg.connect(pair.source_dsn, autocommit=True) as source:
            end = time.monotonic() + 3 * INTERVAL_S
            while time.monotonic() < end:
                source.execute("update credit.account set balance = balance + 1 where id = 1")
                time.sleep(0.005)
        used = {0: 0, 1: 0}
        end = time.monotonic() + INTERVAL_S
        while time.monotonic() < end:
            used[min(sessions(pair), 1)] += 1
            time.sleep(0.05)
        assert used[0] > used[1], "mostly there is no session on the target"
        wait_until(lambda: sessions(pair) == 0)
        # In each of four bursts: claimed, what was gathered, what came meanwhile.
        (changes,) = fetch(pair.source_dsn, "select balance from credit.account where id = 1")
        assert 2 <= moves(pair) - before <= int(str(changes)) / 10
        assert fetch(pair.target_dsn, "select balance > 300 from credit.account where id = 1") == [
            True
        ]
        assert daemon.terminate() == 0, daemon.log()
    drain(pair)
    same_rows(pair)


def test_more_than_a_batch_holds(pair: Pair) -> None:
    """What does not fit waits in the source's WAL, and comes by the same burst."""
    prepare(pair)
    with streaming(pair, BURSTS | {"CDC_APPLY_MAX_ROWS": "100"}) as daemon:
        for n in range(20):
            rows = f"select n, 0, 'x' from generate_series({n * 100 + 10}, {n * 100 + 109}) n"
            run_sql(pair.source_dsn, f"insert into credit.account {rows}")
        (end,) = fetch(pair.source_dsn, "select count(*) from credit.account")
        count = "select count(*) from credit.account"
        assert fetch(pair.target_dsn, count) != [end]
        wait_until(lambda: fetch(pair.target_dsn, count) == [end])
        assert daemon.terminate() == 0, daemon.log()
    same_rows(pair)


def test_an_idle_source_wakes_nobody(pair: Pair) -> None:
    """Without changes there is no burst at all."""
    prepare(pair)
    with streaming(pair, BURSTS):
        wait_until(lambda: sessions(pair) == 0)
        end = time.monotonic() + 2.5 * INTERVAL_S
        while time.monotonic() < end:
            assert sessions(pair) == 0
            time.sleep(0.02)


def test_asked_for_an_end_nothing_is_gathered(pair: Pair) -> None:
    """`--until-current` does not wait for the next burst."""
    prepare(pair)
    run_sql(pair.source_dsn, "update credit.account set balance = 7")
    with spawn_cdc(pair, "run", "--until-current", env={"CDC_APPLY_FLUSH_INTERVAL": "600"}) as run:
        assert run.process.wait(20) == 0
    same_rows(pair)


def test_a_session_that_the_server_has_ended_is_no_error(pair: Pair) -> None:
    """Neon suspends with the session open: the next change connects anew, without a warning."""
    prepare(pair)
    with streaming(pair) as daemon:
        run_sql(pair.source_dsn, "update credit.account set balance = 1")
        one = "select count(*) from credit.account where balance = {}"
        wait_until(lambda: fetch(pair.target_dsn, one.format(1)) == [5])
        run_sql(
            pair.target_admin_dsn,
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and application_name like 'cdc%'",
        )
        run_sql(pair.source_dsn, "update credit.account set balance = 2")
        wait_until(lambda: fetch(pair.target_dsn, one.format(2)) == [5])
        assert '"level":"warning"' not in daemon.log()
        assert daemon.terminate() == 0


def prepare(pair: Pair) -> None:
    """Make a table with five rows, and the copy."""
    migrate(pair, SCHEMA)
    run_sql(
        pair.source_dsn, "insert into credit.account select n, 0, 'x' from generate_series(1, 5) n"
    )
    ok(pair, "init")


def sessions(pair: Pair) -> int:
    """Count the daemon's sessions on the target."""
    with watching(pair) as watcher:
        row = watcher.execute(SESSIONS).fetchone()
        assert row is not None
        return int(row[0])


def moves(pair: Pair) -> int:
    """Count the transactions that have moved the checkpoint: the versions of its row."""
    (count,) = fetch(
        pair.target_dsn,
        "select n_tup_upd::int from pg_stat_user_tables where relname = 'checkpoint'",
    )
    return int(str(count))


@contextmanager
def watching(pair: Pair) -> Iterator[psycopg.Connection]:
    """Look at the target without being taken for the daemon."""
    with psycopg.connect(
        pair.target_admin_dsn, autocommit=True, application_name="test"
    ) as watcher:
        yield watcher

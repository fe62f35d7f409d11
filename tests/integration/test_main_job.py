"""The main job: copy under writes, follow the stream, end equal."""

import json

import psycopg

from cdc.demo.workload import Workload, load
from tests.pair import Pair, same_rows
from tests.process import run_cdc, spawn_cdc
from tests.servers import on_every_version

LAG_KEYS = {
    "slot",
    "active",
    "wal_status",
    "source_lsn",
    "confirmed_flush_lsn",
    "checkpoint_lsn",
    "lag_bytes",
    "lag_seconds",
    "retained_wal_bytes",
    "safe_wal_bytes",
}


@on_every_version
def test_copies_and_follows_under_writes(credit_pair: Pair) -> None:
    """Init and run while a writer goes on, run --until-current after it: every table is equal."""
    load(credit_pair.source_dsn, 3_000)
    with Workload(credit_pair.source_dsn, seed=1, rate=150) as workload:
        assert run_cdc(credit_pair, "init").returncode == 0
        with spawn_cdc(credit_pair, "run") as daemon:
            daemon.wait_for_log("streaming")
            wait_for_transactions(workload, 400)
            assert daemon.terminate() == 0
        wait_for_transactions(workload, 500)
    caught_up = run_cdc(credit_pair, "run", "--until-current")
    assert caught_up.returncode == 0, caught_up.stderr
    counts = same_rows(credit_pair)
    assert all(counts.values()), counts
    lag = json.loads(run_cdc(credit_pair, "lag", "--json").stdout)
    assert set(lag) == LAG_KEYS
    assert (lag["lag_bytes"], lag["lag_seconds"], lag["active"]) == (0, 0, False)


def test_run_initializes_by_itself(credit_pair: Pair) -> None:
    """`cdc run` on a pair that was never initialized copies it first."""
    load(credit_pair.source_dsn, 500)
    result = run_cdc(credit_pair, "run", "--until-current")
    assert result.returncode == 0, result.stderr
    assert sum(same_rows(credit_pair).values()) > 400


def test_until_lsn_waits_for_that_lsn(credit_pair: Pair) -> None:
    """`--until-lsn` of a commit's position returns when that commit is on the target."""
    assert run_cdc(credit_pair, "init").returncode == 0
    load(credit_pair.source_dsn, 200)
    with psycopg.connect(credit_pair.source_dsn, autocommit=True) as source:
        row = source.execute("select pg_current_wal_insert_lsn()::text").fetchone()
    assert row is not None
    result = run_cdc(credit_pair, "run", "--until-lsn", row[0])
    assert result.returncode == 0, result.stderr
    same_rows(credit_pair)


def test_supabase_extras_do_not_break_the_copy(supabase_pair: Pair) -> None:
    """Row level security and a foreign key to auth.users on the source are no obstacle."""
    load(supabase_pair.source_dsn, 500)
    result = run_cdc(supabase_pair, "run", "--until-current")
    assert result.returncode == 0, result.stderr
    assert same_rows(supabase_pair)["applications"] > 0


def test_triggers_do_not_fire_on_the_target(credit_pair: Pair) -> None:
    """User triggers, which would rewrite rows, are disabled there, and the ledger says so."""
    load(credit_pair.source_dsn, 500)
    assert run_cdc(credit_pair, "run", "--until-current").returncode == 0
    with psycopg.connect(credit_pair.source_dsn) as source:
        source.execute("update credit.businesses set legal_name = legal_name || '!'")
    assert run_cdc(credit_pair, "run", "--until-current").returncode == 0
    same_rows(credit_pair)
    with psycopg.connect(credit_pair.target_dsn) as target:
        ledger = target.execute("select detail from cdc.ledger where event = 'triggers disabled'")
        assert any("businesses" in detail for (detail,) in ledger)


def wait_for_transactions(workload: Workload, count: int) -> None:
    """Wait until the writer has committed so many."""
    while workload.transactions < count:
        assert workload.running, "the writer has ended"

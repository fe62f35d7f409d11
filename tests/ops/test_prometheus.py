"""What a real Prometheus makes of a real daemon: series, values, rules, the dashboard's queries."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from cdc.lsn import parse_lsn
from tests.databases import fetch, run_sql, wait_until, waits_for_lock
from tests.metrics import ALERTS, DASHBOARD, known_names
from tests.ops.prometheus import Prometheus, promtool, scraping
from tests.pair import Pair, execute
from tests.process import ok, run_cdc
from tests.serving import get, serving

INSERT = """
insert into credit.providers (code, name, rank, base_rate)
select format('p%%s', n), 'one', n, 0.05 from generate_series(%s::int, %s) as n
"""

VERIFIED = ("equal", "differing", "rows")

# What Grafana puts in place of the dashboard's variables.
VARIABLES = {"$__rate_interval": "10s", "$job": "cdc", "$instance": ".+"}


def panel_queries() -> list[str]:
    """Give the dashboard's expressions, as Grafana sends them."""
    expressions = [
        target["expr"]
        for panel in json.loads(DASHBOARD.read_text())["panels"]
        for target in panel.get("targets", ())
    ]
    for name, value in VARIABLES.items():
        expressions = [expression.replace(name, value) for expression in expressions]
    return expressions


def wait_for_applied(prometheus: Prometheus, **expected: int) -> None:
    """Wait until the target has taken so many changes of `credit.providers`, by operation."""

    def applied() -> dict[str, float]:
        found = prometheus.query('cdc_changes_applied_total{table="credit.providers"}')
        return {sample.labels["operation"]: sample.value for sample in found}

    wait_until(lambda: applied() == expected)


@contextmanager
def locked(dsn: str, table: str) -> Iterator[None]:
    """Have nobody else write to a table."""
    with psycopg.connect(dsn) as connection:
        connection.execute(f"lock table {table} in access exclusive mode")
        yield


@pytest.fixture
def limited_wal(credit_pair: Pair) -> Iterator[Pair]:
    """Give a pair whose source keeps no more than so much WAL for a slot, as Supabase does."""
    execute(credit_pair.source, "alter system set max_slot_wal_keep_size = '4GB'")
    execute(credit_pair.source, "select pg_reload_conf()")
    yield credit_pair
    execute(credit_pair.source, "alter system reset max_slot_wal_keep_size")
    execute(credit_pair.source, "select pg_reload_conf()")


def test_promtool_finds_nothing_wrong(credit_pair: Pair) -> None:
    """Names, types and help texts are as Prometheus wants them; a batch may take a millisecond."""
    with serving(credit_pair) as (_, port):
        run_sql(credit_pair.source_dsn, INSERT, 1, 10)
        wait_until(lambda: "cdc_batch_size_bucket" in get(port, "/metrics").text)
        found = get(port, "/metrics")
    assert 'cdc_batch_duration_seconds_bucket{le="0.001"}' in found.text
    checked = promtool("check", "metrics", given=found.body)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_changes_are_counted(credit_pair: Pair, tmp_path: Path) -> None:
    """The counters of a table are what was inserted, updated and deleted; a restart begins anew."""
    source = credit_pair.source_dsn
    with serving(credit_pair) as (daemon, port), scraping(tmp_path, port) as prometheus:
        # One after the other has arrived: what is in one batch may be folded.
        run_sql(source, INSERT, 1, 20)
        wait_for_applied(prometheus, insert=20)
        run_sql(source, "update credit.providers set name = 'two' where rank <= 5")
        wait_for_applied(prometheus, insert=20, update=5)
        run_sql(source, "delete from credit.providers where rank <= 3")
        wait_for_applied(prometheus, insert=20, update=5, delete=3)
        assert prometheus.value("cdc_transactions_total") == 3
        assert prometheus.value("sum(cdc_batch_size_sum)") == 28
        assert daemon.terminate() == 0
        # On the same port, which Prometheus goes on scraping.
        with serving(credit_pair, {"CDC_HTTP_LISTEN": f"127.0.0.1:{port}"}):
            wait_until(lambda: prometheus.value("cdc_transactions_total") == 0)
            wait_until(lambda: prometheus.value("cdc_streams_total") == 1)
            run_sql(source, INSERT, 101, 107)
            wait_for_applied(prometheus, insert=7)


def test_lag_is_nought_grows_and_is_nought_again(credit_pair: Pair, tmp_path: Path) -> None:
    """Lag is 0 while nothing is missing, grows while the target is locked, and falls to 0 after."""
    with serving(credit_pair) as (_, port), scraping(tmp_path, port) as prometheus:

        def lag() -> float:
            return prometheus.value("cdc_lag_time_seconds") or 0.0

        wait_until(lambda: prometheus.value("cdc_lag_time_seconds") == 0)
        assert prometheus.value("sum(cdc_lag_bytes)") == 0
        with locked(credit_pair.target_admin_dsn, "credit.providers"):
            run_sql(credit_pair.source_dsn, INSERT, 1, 1)
            wait_until(lambda: lag() > 1)
            before = lag()
            wait_until(lambda: lag() > before + 1)
            assert prometheus.value('cdc_lag_bytes{stage="apply"}') not in {None, 0}
        wait_until(lambda: prometheus.value("cdc_lag_time_seconds") == 0)
        assert prometheus.value('cdc_phase{state="streaming"}') == 1
        retained = prometheus.value("cdc_slot_wal_retained_bytes")
        assert retained is not None
        assert retained > 0
        assert [s.labels["state"] for s in prometheus.query("cdc_slot_status == 1")] == ["reserved"]


def test_verifications_are_measured(credit_pair: Pair, tmp_path: Path) -> None:
    """Nothing before the first one; then where and when all was equal, and what differs now."""
    pair = credit_pair
    with serving(pair) as (daemon, port), scraping(tmp_path, port) as prometheus:
        run_sql(pair.source_dsn, INSERT, 1, 10)
        wait_for_applied(prometheus, insert=10)
        known = {"cdc_verify_runs_total"}
        assert prometheus.names("cdc_verify") == known
        assert prometheus.value("sum(cdc_verify_runs_total)") == 0
        lsn = parse_lsn(json.loads(ok(pair, "verify", "--json").stdout)["lsn"])
        wait_until(lambda: prometheus.value("cdc_verify_lsn_bytes") == lsn)
        assert prometheus.value('cdc_verify_runs_total{result="equal"}') == 1
        assert [prometheus.value(f"cdc_verify_{name}") for name in VERIFIED] == [1, 0, 10]
        age_s = prometheus.value("time() - cdc_verify_time_seconds")
        assert age_s is not None
        assert age_s < 60
        run_sql(pair.target_dsn, "delete from credit.providers where rank = 1")
        assert run_cdc(pair, "verify").returncode == 1
        wait_until(lambda: prometheus.value("cdc_verify_differing") == 1)
        assert prometheus.value('cdc_verify_runs_total{result="different"}') == 1
        assert daemon.terminate() == 0
        with serving(pair, {"CDC_HTTP_LISTEN": f"127.0.0.1:{port}"}):
            wait_until(lambda: prometheus.value("sum(cdc_verify_runs_total)") == 0)
            wait_until(
                lambda: [prometheus.value(f"cdc_verify_{name}") for name in VERIFIED] == [0, 1, 10]
            )
            assert prometheus.value("cdc_verify_lsn_bytes") == lsn


def test_rules_and_dashboard_read_what_there_is(limited_wal: Pair, tmp_path: Path) -> None:
    """Each declared metric arrives, and no other; no query is empty, each rule is healthy."""
    pair = limited_wal
    with (
        serving(pair, {"CDC_SPOOL_MAX_BYTES": str(1 << 30)}) as (_, port),
        scraping(tmp_path, port, [ALERTS]) as prometheus,
    ):
        with locked(pair.target_admin_dsn, "credit.providers"):
            run_sql(pair.source_dsn, INSERT, 1, 10)
            wait_until(lambda: waits_for_lock(pair.target_admin_dsn))
            fetch(
                pair.target_admin_dsn,
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and wait_event_type = 'Lock'",
            )
            wait_until(lambda: prometheus.value("sum(cdc_apply_failures_total)") == 1)
        ok(pair, "verify")
        wait_until(lambda: prometheus.names("cdc_") == known_names(), 40)

        def empty() -> list[str]:
            # Changes keep coming: a rate of nothing is no number.
            run_sql(pair.source_dsn, "update credit.providers set rank = rank + 100")
            return [query for query in panel_queries() if not prometheus.query(query)]

        wait_until(lambda: not empty(), 30)
        rules = prometheus.ask("rules")
    assert isinstance(rules, dict)
    (group,) = rules["groups"]
    assert {(rule["name"], rule["health"]) for rule in group["rules"]} == {
        (rule["name"], "ok") for rule in group["rules"]
    }
    assert [rule["name"] for rule in group["rules"] if rule["state"] == "firing"] == []

"""Metrics that are pushed: to whom asks for it, and never at the cost of the stream."""

from collections.abc import Iterator

import pytest

from cdc.observe.instruments import INSTRUMENTS
from tests.databases import run_sql, wait_until
from tests.ops.otlp import accepting, receiving
from tests.pair import Pair, same_rows
from tests.process import run_cdc, streaming
from tests.serving import LOOPBACK, free_port, get, serving

# Pushed all the time: what could be slowed down by that, would be.
OFTEN = {"OTEL_METRIC_EXPORT_INTERVAL": "200"}

INSERT = """
insert into credit.providers (code, name, rank, base_rate)
select format('p%%s', n), 'one', n, 0.05 from generate_series(%s::int, %s) as n
"""


@pytest.fixture(params=["away", "silent"])
def endpoint(request: pytest.FixtureRequest) -> Iterator[str]:
    """Give an endpoint that does no good: nobody listens there, or nobody answers."""
    if request.param == "away":
        yield f"http://{LOOPBACK}:{free_port()}"
        return
    with accepting() as url:
        yield url


def test_metrics_are_pushed(credit_pair: Pair) -> None:
    """An endpoint in the environment gets the metrics by their own names, and by the service's."""
    with receiving() as received:
        env = OFTEN | {"OTEL_EXPORTER_OTLP_ENDPOINT": received.url}
        with streaming(credit_pair, env) as daemon:
            run_sql(credit_pair.source_dsn, INSERT, 1, 10)
            wait_until(lambda: {"cdc.lag", "cdc.batch.size"} <= received.names)
            assert daemon.terminate() == 0
    assert received.names <= {instrument.name for instrument in INSTRUMENTS}
    assert received.services == {"cdc"}


def test_nothing_is_pushed_unasked(credit_pair: Pair) -> None:
    """Where the environment says no, nothing is pushed, and /metrics answers all the same."""
    with receiving() as received:
        asked = {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": received.url}
        env = OFTEN | asked | {"OTEL_METRICS_EXPORTER": "none"}
        with serving(credit_pair, env) as (daemon, port):
            run_sql(credit_pair.source_dsn, INSERT, 1, 10)
            wait_until(lambda: "cdc_batch_size_count" in get(port, "/metrics").text)
            assert daemon.terminate() == 0
    assert received.requests == 0


def test_an_endpoint_that_does_no_good_costs_nothing(credit_pair: Pair, endpoint: str) -> None:
    """Changes arrive, the daemon answers, and SIGTERM ends it with 0 all the same."""
    env = OFTEN | {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
    with serving(credit_pair, env) as (daemon, port):
        for first in range(1, 1000, 100):
            run_sql(credit_pair.source_dsn, INSERT, first, first + 99)
            wait_until(lambda: get(port, "/readyz").status == 200)
        wait_until(lambda: "cdc_transactions_total 10.0" in get(port, "/metrics").text)
        assert daemon.terminate() == 0
    assert same_rows(credit_pair)["providers"] == 1000


def test_what_cannot_be_pushed_is_said_at_once(credit_pair: Pair) -> None:
    """A protocol that is not there ends the daemon with 78 and the name of the one that is."""
    result = run_cdc(
        credit_pair,
        "run",
        env={
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{LOOPBACK}:4317",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        },
    )
    assert result.returncode == 78
    assert "http/protobuf" in result.stderr

"""What is pushed by OTLP where the standard variables ask for it, and what that never costs."""

import socket
from itertools import pairwise

import pytest

from tests.databases import fetch, migrate, run_sql, wait_until
from tests.otlp import receiver
from tests.pair import Pair
from tests.process import run_cdc, streaming
from tests.serving import free_port, get

SCHEMA = """
create schema credit;
create table credit.account (id int primary key, balance int not null);
"""

# Pushed often, so that a test need not wait.
EAGER = {"OTEL_METRIC_EXPORT_INTERVAL": "200", "OTEL_BSP_SCHEDULE_DELAY": "200"}


@pytest.fixture
def tiny(pair: Pair) -> Pair:
    """Two databases with one empty table."""
    migrate(pair, SCHEMA)
    return pair


def test_metrics_and_traces_are_pushed(tiny: Pair) -> None:
    """Each batch is a trace: received, applied, confirmed, one after the other."""
    with receiver() as collector:
        env = EAGER | {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint}
        with streaming(tiny, env) as daemon:
            insert(tiny, 1)
            wait_until(lambda: {"cdc batch", "confirm"} <= {s.name for s in collector.spans()})
            wait_until(lambda: {"cdc.lag", "cdc.batch.duration"} <= collector.metrics())
            assert daemon.terminate() == 0, daemon.log()
    spans = collector.spans()
    batch = next(span for span in spans if span.name == "cdc batch")
    parts = [span for span in spans if span.parent_span_id == batch.span_id]
    assert [span.name for span in parts] == ["receive", "apply", "confirm"]
    assert {span.trace_id for span in parts} == {batch.trace_id}
    assert parts[0].start_time_unix_nano == batch.start_time_unix_nano
    for before, after in pairwise(parts):
        assert before.end_time_unix_nano == after.start_time_unix_nano
    assert parts[2].end_time_unix_nano == batch.end_time_unix_nano
    attributes = {one.key: one.value for one in batch.attributes}
    assert attributes["cdc.batch.changes"].int_value == 1


def test_nothing_is_pushed_unasked(tiny: Pair) -> None:
    """Neither without the variables, nor where they say no."""
    with receiver() as collector:
        env = EAGER | {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_METRICS_EXPORTER": "none",
        }
        with streaming(tiny, env | {"OTEL_SDK_DISABLED": "true"}) as daemon:
            insert(tiny, 1)
            wait_until(lambda: arrived(tiny) == [1])
            assert daemon.terminate() == 0
        assert collector.bodies == []
        with streaming(tiny, env) as daemon:
            insert(tiny, 2)
            wait_until(lambda: collector.spans() != [])
            assert daemon.terminate() == 0
        assert collector.metrics() == set()


def test_what_is_turned_off_is_pushing(tiny: Pair) -> None:
    """OTEL_SDK_DISABLED leaves /metrics as it is: whether that is served, http.listen says."""
    with receiver() as collector:
        port = free_port()
        env = EAGER | {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_SDK_DISABLED": "true",
            "CDC_HTTP_LISTEN": f"127.0.0.1:{port}",
        }
        with streaming(tiny, env) as daemon:
            insert(tiny, 1)
            wait_until(lambda: arrived(tiny) == [1])
            wait_until(lambda: "\ncdc_transactions_total" in get(port, "/metrics").text)
            assert daemon.terminate() == 0
        assert collector.bodies == []


@pytest.mark.parametrize("endpoint", ["away", "deaf", "black hole"])
def test_an_endpoint_that_does_not_answer(tiny: Pair, endpoint: str) -> None:
    """The stream goes on at its pace, and the daemon ends when it is told to."""
    with receiver() as collector, socket.create_server(("127.0.0.1", 0), backlog=0) as hole:
        collector.deaf.set()
        address = {
            "away": "http://127.0.0.1:9",
            "deaf": collector.endpoint,
            "black hole": f"http://127.0.0.1:{hole.getsockname()[1]}",
        }[endpoint]
        with streaming(tiny, EAGER | {"OTEL_EXPORTER_OTLP_ENDPOINT": address}) as daemon:
            for number in range(1, 21):
                insert(tiny, number)
                wait_until(lambda: number in arrived(tiny), 5)  # noqa: B023  # called at once
            assert daemon.terminate() == 0, daemon.log()


@pytest.mark.parametrize(
    ("name", "value"),
    [("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), ("OTEL_METRICS_EXPORTER", "console")],
)
def test_a_way_that_is_not_there(tiny: Pair, name: str, value: str) -> None:
    """It is said at the start, not found out by whoever misses the metrics."""
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", name: value}
    result = run_cdc(tiny, "run", env=env)
    assert result.returncode == 78
    assert value in result.stderr


def insert(pair: Pair, number: int) -> None:
    """Insert one row."""
    run_sql(pair.source_dsn, "insert into credit.account values (%s, 0)", number)


def arrived(pair: Pair) -> list[object]:
    """Give the rows of the target."""
    return fetch(pair.target_dsn, "select id from credit.account order by id")

"""OpenTelemetry's SDK: who collects what `instruments` declares, and where it goes.

    scraped   by Prometheus or a collector, from the text that `Telemetry.scrape` returns
    pushed    by OTLP over HTTP, metrics and traces, where the standard OTEL_* variables ask for it

Pushing happens in threads of the SDK: an endpoint that is away costs the stream nothing, and what
cannot be sent is dropped and said in the log.
"""

import asyncio
import os
import threading
from collections.abc import Collection
from time import monotonic

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from prometheus_client import CollectorRegistry, generate_latest

from cdc import __version__
from cdc.observe import instruments
from cdc.observe.pushed import Signal
from cdc.vitals import Vitals

# A scrape costs milliseconds: who asks more often than this is given the same again.
_SCRAPE_S = 1.0

# What is still to be pushed when the daemon stops gets so long.
_FLUSH_S = 2.0
_LOOK_S = 0.01


class Telemetry:
    """What is collected of one daemon. One of a process."""

    def __init__(self, vitals: Vitals, pushed: Collection[Signal]) -> None:
        self._registry = CollectorRegistry()
        self._scraped = b""
        self._scraped_at_s = -_SCRAPE_S
        self._scraping = asyncio.Lock()
        resource = Resource.create(
            {SERVICE_NAME: os.environ.get("OTEL_SERVICE_NAME", "cdc"), SERVICE_VERSION: __version__}
        )
        readers: list[MetricReader] = [
            PrometheusMetricReader(scope_info_enabled=False, registry=self._registry)
        ]
        # It is read (`pushed`). The SDK reads it too, and would leave what is scraped empty.
        os.environ.pop("OTEL_SDK_DISABLED", None)
        if Signal.METRICS in pushed:
            readers.append(PeriodicExportingMetricReader(OTLPMetricExporter()))
        self._meters = MeterProvider(readers, resource, shutdown_on_exit=False)
        metrics.set_meter_provider(self._meters)
        instruments.register(vitals)
        self._traces: TracerProvider | None = None
        if Signal.TRACES in pushed:
            self._traces = TracerProvider(resource=resource, shutdown_on_exit=False)
            self._traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
            trace.set_tracer_provider(self._traces)

    async def scrape(self) -> bytes:
        """Return all metrics as Prometheus reads them, at most a second old."""
        async with self._scraping:
            if monotonic() - self._scraped_at_s > _SCRAPE_S:
                self._scraped = await asyncio.to_thread(generate_latest, self._registry)
                self._scraped_at_s = monotonic()
            return self._scraped

    async def close(self) -> None:
        """Push what is left, but not for long: the thread that does is left behind."""
        thread = threading.Thread(target=self._flush, daemon=True)
        thread.start()
        until = monotonic() + _FLUSH_S
        while thread.is_alive() and monotonic() < until:  # noqa: ASYNC110  # it knows no loop
            await asyncio.sleep(_LOOK_S)

    def _flush(self) -> None:
        if self._traces is not None:
            self._traces.shutdown()
        self._meters.shutdown()

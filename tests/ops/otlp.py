"""An OTLP receiver of a test's own: by HTTP, as collectors are, and one that never answers."""

import gzip
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from tests.serving import LOOPBACK


@dataclass(slots=True)
class Received:
    """What has come."""

    url: str
    services: set[str] = field(default_factory=set)
    """service.name of who sent."""
    names: set[str] = field(default_factory=set)
    """Of the metrics."""
    requests: int = 0

    def take(self, body: bytes) -> None:
        """Note what a request brought."""
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            for attribute in resource.resource.attributes:
                if attribute.key == "service.name":
                    self.services.add(attribute.value.string_value)
            for scope in resource.scope_metrics:
                self.names.update(metric.name for metric in scope.metrics)


@contextmanager
def receiving() -> Iterator[Received]:
    """Take metrics until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.requests += 1
            if self.path == "/v1/metrics":
                gzipped = self.headers.get("Content-Encoding") == "gzip"
                received.take(gzip.decompress(body) if gzipped else body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as it is called
            """Say nothing."""

    with ThreadingHTTPServer((LOOPBACK, 0), Handler) as server:
        received = Received(f"http://{LOOPBACK}:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield received
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def accepting() -> Iterator[str]:
    """Give the address of one that takes connections and never says anything."""
    with socket.create_server((LOOPBACK, 0), backlog=64) as server:
        yield f"http://{LOOPBACK}:{server.getsockname()[1]}"

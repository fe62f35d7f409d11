"""A daemon that serves, and what it answers: over real sockets, by the standard library."""

import base64
import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from tests.databases import wait_until
from tests.pair import Pair
from tests.process import Daemon, streaming

LOOPBACK = "127.0.0.1"
ANSWER_TIMEOUT_S = 20.0


@dataclass(slots=True, frozen=True)
class Answer:
    """What a request got."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    def json(self) -> dict[str, object]:
        """The body as a JSON object."""
        found = json.loads(self.body)
        assert isinstance(found, dict)
        return found


def free_port() -> int:
    """Give a port that nobody listens on now."""
    with socket.create_server((LOOPBACK, 0)) as server:
        port: int = server.getsockname()[1]
        return port


def get(
    port: int, path: str, *, headers: Mapping[str, str] | None = None, host: str = LOOPBACK
) -> Answer:
    """Ask once, on a connection of its own."""
    connection = http.client.HTTPConnection(host, port, timeout=ANSWER_TIMEOUT_S)
    try:
        connection.request("GET", path, headers=dict(headers or {}))
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()


def bearer(token: str) -> dict[str, str]:
    """Give the header that brings a token."""
    return {"Authorization": f"Bearer {token}"}


def basic(token: str) -> dict[str, str]:
    """Give the header that a browser makes of a password."""
    return {"Authorization": "Basic " + base64.b64encode(f"operator:{token}".encode()).decode()}


@contextmanager
def serving(pair: Pair, env: Mapping[str, str] | None = None) -> Iterator[tuple[Daemon, int]]:
    """Run a daemon past its copy, and give the port that it answers on."""
    port = free_port()
    with streaming(pair, {"CDC_HTTP_LISTEN": f"{LOOPBACK}:{port}", **(env or {})}) as daemon:
        yield daemon, port


def wait_for_status(port: int, path: str, status: int, timeout_s: float = 20) -> None:
    """Wait until a path answers with a status."""
    wait_until(lambda: get(port, path).status == status, timeout_s)

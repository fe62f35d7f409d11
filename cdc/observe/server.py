"""The HTTP server: an address, a bound on who is connected, a beginning and an end.

Uvicorn does the work. What is ours keeps the stream from being starved by those who look at it: so
many connections at once and no more, and none that stays without asking anything. A connection more
is closed at once: descriptors are needed for the databases.
"""

import asyncio
import errno
import ipaddress
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from cdc.errors import SettingsError, Unavailable
from cdc.settings import HttpSettings

log = logging.getLogger(__name__)

MOST_CONNECTIONS = 100
_IDLE_S = 10
_REQUEST_BYTES = 1 << 16

# Accepted at once, before any of them is counted.
_BACKLOG = 32


class _Bounded(HttpToolsProtocol):
    """A connection that has its place among the others for as long as it asks something.

    A request has so long, and so many bytes, to be complete; uvicorn itself begins to count at the
    end of the first one.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._received = 0
        self._deadline: asyncio.TimerHandle | None = None
        if len(self.server_state.connections) >= MOST_CONNECTIONS:
            self.connections = set()  # which it is taken out of when it is lost
            self.transport = transport
            transport.abort()
            return
        super().connection_made(transport)
        self._deadline = self.loop.call_later(_IDLE_S, transport.abort)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > _REQUEST_BYTES:
            self.transport.abort()
            return
        if self._deadline is None:
            self._deadline = self.loop.call_later(_IDLE_S, self.transport.abort)
        super().data_received(data)

    def on_headers_complete(self) -> None:
        self._received = 0
        self._forget_deadline()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_deadline()
        super().connection_lost(exc)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _Server(uvicorn.Server):
    """One that leaves signals to the daemon."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bind(settings: HttpSettings) -> socket.socket:
    """Return a socket that listens where the settings say.

    Raises SettingsError for an address that cannot be had, Unavailable for one that is taken.
    """
    host, _, port = settings.listen.rpartition(":")
    host = host.strip("[]")
    if settings.token is None and not _is_loopback(host):
        raise SettingsError(
            f"http.listen is {settings.listen}, which others can reach, and there is no token",
            hint="set CDC_HTTP_TOKEN (16 characters or more), or listen on 127.0.0.1",
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named as TCP, else asyncio leaves Nagle's algorithm on: 40 ms an answer (`make bench`, asked).
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, int(port)))
        listening.listen(_BACKLOG)
    except (OSError, OverflowError) as ex:
        listening.close()
        problem = f"cannot listen on {settings.listen}: {getattr(ex, 'strerror', None) or ex}"
        if isinstance(ex, OSError) and ex.errno == errno.EADDRINUSE:
            raise Unavailable(
                problem,
                hint="another daemon runs here? Give this one a port of its own, or none:"
                " CDC_HTTP_LISTEN=127.0.0.1:9465 or CDC_HTTP_LISTEN=''",
            ) from None
        raise SettingsError(
            problem, hint="set CDC_HTTP_LISTEN to an address of this machine, as 127.0.0.1:9464"
        ) from None
    return listening


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@asynccontextmanager
async def serving(app: ASGIApp, listening: socket.socket) -> AsyncIterator[None]:
    """Serve until the end of the block."""
    config = uvicorn.Config(
        app,
        http=_Bounded,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=_IDLE_S,
        timeout_graceful_shutdown=1,
        backlog=_BACKLOG,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    host, port = listening.getsockname()[:2]
    log.info("serving", extra={"address": f"http://{host}:{port}"})
    try:
        yield
    finally:
        server.should_exit = True
        await task

"""`asked`: what those who look at a daemon cost it, and how long they wait for their answers.

A backlog is drained by a daemon that nobody asks, and by one that is asked a thousand times a
second how it does; and it is asked as often while it has nothing to do. Who asks is a process of
its own, with ten connections that stay open; what it costs the machine is in the figures.
"""

import asyncio
import multiprocessing
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection

import psycopg

from cdc.demo.display import Display
from tests.bench.rig import prepared, verify
from tests.bench.workloads import PER_TRANSACTION, bookings, transactions
from tests.databases import fetch, wait_until
from tests.pair import Pair
from tests.process import streaming
from tests.serving import LOOPBACK, free_port

ROWS = 500_000
RATE = 1_000
"""Requests per second."""

_CONNECTIONS = 10
_IDLE_SECONDS = 10.0
_PATH = "/api/credit/health/databases"
_TIMEOUT_S = 600.0


@dataclass(slots=True)
class Figures:
    """What was measured; the fields are those of `--json`."""

    case: str
    round: int
    changes_per_second: float
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    max_ms: float


def run(rows: int, rounds: int, display: Display) -> Iterator[Figures]:
    """Drain with and without requests, in turn; ask an idle daemon too."""
    with prepared(display) as pair:
        first = 1
        for number in range(1, rounds + 1):
            for rate in (0, RATE):
                display.show("building", f"{rows:,} rows")
                _build(pair, first, rows)
                first += rows
                display.show("draining", f"{rate:,} requests/s")
                one = _drained(pair, rows, rate, number)
                display.say(f"{one.case}, round {number}: {one.changes_per_second:,.0f} changes/s")
                yield one
            yield _idle(pair, number)
        verify(pair, display)


def _build(pair: Pair, first: int, rows: int) -> None:
    body = bookings(
        f"{first} + (t - 1) * {PER_TRANSACTION}", f"{first} - 1 + t * {PER_TRANSACTION}"
    )
    with psycopg.connect(pair.source_dsn, autocommit=True) as source:
        source.execute(transactions(rows // PER_TRANSACTION, body).encode())


def _drained(pair: Pair, rows: int, rate: int, number: int) -> Figures:
    """Have a backlog drained while somebody asks."""
    port = free_port()
    # What was built is behind this.
    (end,) = fetch(pair.source_dsn, "select pg_current_wal_flush_lsn()::text")
    with streaming(pair, {"CDC_HTTP_LISTEN": f"{LOOPBACK}:{port}"}):
        since = time.monotonic()
        with _asked(port, rate) as asking:
            wait_until(lambda: _reached(pair, str(end)), _TIMEOUT_S)
            seconds = time.monotonic() - since
    case = f"draining, {rate:,} requests/s" if rate else "draining, not asked"
    return asking.figures(case, number, rows / seconds, seconds)


def _idle(pair: Pair, number: int) -> Figures:
    port = free_port()
    with (
        streaming(pair, {"CDC_HTTP_LISTEN": f"{LOOPBACK}:{port}"}),
        _asked(port, RATE) as asking,
    ):
        time.sleep(_IDLE_SECONDS)
    return asking.figures(f"idle, {RATE:,} requests/s", number, 0.0, _IDLE_SECONDS)


def _reached(pair: Pair, lsn: str) -> bool:
    query = "select from cdc.checkpoint where slot = %s and lsn >= %s::pg_lsn"
    return fetch(pair.target_dsn, query, pair.slot, lsn) == [True]


@contextmanager
def _asked(port: int, rate: int) -> Iterator["_Asking"]:
    asking = _Asking(port, rate)
    asking.start()
    try:
        yield asking
    finally:
        asking.stop()


class _Asking:
    """Somebody who asks, until told to stop."""

    def __init__(self, port: int, rate: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_ask, args=(port, rate, theirs)) if rate else None
        self._waited_ms: list[float] = []

    def start(self) -> None:
        """Begin to ask."""
        if self._process is not None:
            self._process.start()
            self._ours.recv()

    def stop(self) -> None:
        """End, and take what was measured."""
        if self._process is not None:
            self._ours.send(None)
            self._waited_ms = self._ours.recv()
            self._process.join()

    def figures(self, case: str, number: int, changes: float, seconds: float) -> Figures:
        """Give what was measured; without requests, no waits."""
        waited = self._waited_ms or [0.0, 0.0]
        hundredths = statistics.quantiles(waited, n=100)
        asked = len(self._waited_ms) / seconds
        return Figures(case, number, changes, asked, hundredths[49], hundredths[98], max(waited))


def _ask(port: int, rate: int, pipe: Connection) -> None:
    """Ask at a steady rate until told to stop; send how long each answer took."""
    pipe.send(None)
    pipe.send(asyncio.run(_ask_all(port, rate, pipe)))


async def _ask_all(port: int, rate: int, pipe: Connection) -> list[float]:
    waited_ms: list[float] = []
    askers = [
        asyncio.create_task(_ask_on_one(port, rate / _CONNECTIONS, waited_ms))
        for _ in range(_CONNECTIONS)
    ]
    while not pipe.poll():  # noqa: ASYNC110  # a pipe knows no loop
        await asyncio.sleep(0.05)
    for asker in askers:
        asker.cancel()
    await asyncio.gather(*askers, return_exceptions=True)
    return waited_ms


async def _ask_on_one(port: int, rate: float, waited_ms: list[float]) -> None:
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    request = f"GET {_PATH} HTTP/1.1\r\nHost: {LOOPBACK}:{port}\r\n\r\n".encode()
    due = time.monotonic()
    while True:
        due += 1 / rate
        await asyncio.sleep(due - time.monotonic())
        since = time.monotonic()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        waited_ms.append((time.monotonic() - since) * 1000)

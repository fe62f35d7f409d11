"""A TCP proxy before a real server, and what a network does to those who talk through it.

It forwards until a fault begins, and again once that is healed. A fault meets the connections that
there are and those that come. Runs on a thread of its own, with an event loop of its own.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeVar

from psycopg.conninfo import conninfo_to_dict, make_conninfo

BLOCK = 1 << 16
DELAY_S = 0.05

# As psycopg sends it (a Parse message: its type and length, no name, the statement), and as the
# server says that it is done.
COMMIT = b"commit\0"
BEFORE_COMMIT = 6
COPY = b"from stdin"
COPY_DONE = b"c\0\0\0\4"

T = TypeVar("T")


class Fault(Enum):
    """What happens to connections."""

    RESET = auto()
    """Cut at once, by a RST; new ones too."""
    END = auto()
    """Cut in order, by a FIN; new ones too."""
    STALL = auto()
    """Kept, and what is sent is taken in; nothing is forwarded. New ones too."""
    STALL_OLD = auto()
    """The same, but new ones go through."""
    DELAY = auto()
    """Everything arrives, later."""
    DRIP = auto()
    """Everything arrives, a byte at a time."""
    LOSE_COMMIT = auto()
    """A COMMIT reaches the server; instead of its answer there comes a RST."""
    LOSE_CLAIM = auto()
    """The same of the statement that claims the checkpoint."""
    LOSE_CHUNK = auto()
    """The same of the COMMIT of a session that copies rows."""
    HOLD_COMMIT = auto()
    """A COMMIT is held back, and what follows it; what comes before has arrived."""


@dataclass(slots=True, eq=False)
class Line:
    """One connection through the proxy."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    stalled: bool = False
    copies: bool = False
    commits_behind_copy: bool = False
    """The COMMIT is in one string with the COPY whose rows are on their way."""
    awaited: bytes | None = None
    """The answer that is to be lost."""

    def cut(self, *, reset: bool) -> None:
        """End both connections."""
        for end in (self.client, self.server):
            if end is None:
                continue
            if reset:
                # Closed with a linger of zero seconds, a socket sends a RST.
                raw = end.get_extra_info("socket")
                with contextlib.suppress(OSError):
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.transport.abort()
            else:
                end.close()


# What is looked for in a request, and in its answer.
LOST = {
    Fault.LOSE_COMMIT: (COMMIT, b"COMMIT\0"),
    Fault.LOSE_CHUNK: (b"COMMIT\0", b"COMMIT\0"),
    Fault.LOSE_CLAIM: (b"update cdc.checkpoint set epoch", b"UPDATE 1\0"),
}


class Proxy:
    """Listens before one server."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._lines: set[Line] = set()
        self._fault: Fault | None = None
        self._left: int | None = None
        self._healed = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.lost = threading.Event()
        """An answer was lost."""
        self.held = threading.Event()
        """A COMMIT is held back."""
        self._listener = self._do(self._listen())
        self.port: int = self._listener.sockets[0].getsockname()[1]
        """Where it listens, at 127.0.0.1."""

    def begin(self, fault: Fault) -> None:
        """Let a fault begin."""
        self._do(self._begin(fault))

    def stall_after(self, size: int) -> None:
        """Let a stall begin once the server has answered so many bytes more."""
        self._left = size

    def heal(self) -> None:
        """Forward again; what was cut stays so, and what was held back arrives."""
        self._do(self._heal())

    def close(self) -> None:
        """Cut all connections, and end."""
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, coroutine: Coroutine[None, None, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def _begin(self, fault: Fault) -> None:
        self._fault = fault
        self._healed.clear()
        for line in self._lines:
            line.stalled = fault in {Fault.STALL, Fault.STALL_OLD}
            if fault in {Fault.RESET, Fault.END}:
                line.cut(reset=fault is Fault.RESET)

    async def _heal(self) -> None:
        self._fault = self._left = None
        self._healed.set()
        for line in self._lines:
            line.stalled = False

    async def _close(self) -> None:
        self._listener.close()
        for line in self._lines:
            line.cut(reset=True)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        line = Line(client, stalled=self._fault is Fault.STALL)
        self._lines.add(line)
        try:
            if self._fault in {Fault.RESET, Fault.END}:
                line.cut(reset=self._fault is Fault.RESET)
                return
            if line.stalled:
                await self._healed.wait()
            answers, line.server = await asyncio.open_connection(*self._address)
            pumps = (
                asyncio.ensure_future(self._requests(line, reader, line.server)),
                asyncio.ensure_future(self._answers(line, answers, client)),
            )
            # Whichever side ends first ends the other.
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            line.cut(reset=False)
            await asyncio.gather(*pumps, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            line.cut(reset=True)
        finally:
            self._lines.discard(line)

    async def _requests(
        self, line: Line, reader: asyncio.StreamReader, server: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(BLOCK):
            lost = LOST.get(self._fault) if self._fault else None
            line.copies |= COPY in data
            of_copy = line.copies or self._fault is not Fault.LOSE_CHUNK
            if lost is not None and lost[0] in data and of_copy:
                line.awaited = lost[1]
            at = _before_commit(line, data) if self._fault is Fault.HOLD_COMMIT else None
            if at is not None:
                await self._forward(line, data[:at], server)
                line.stalled, data = True, data[at:]
                self.held.set()
            await self._forward(line, data, server)

    async def _answers(
        self, line: Line, reader: asyncio.StreamReader, client: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(BLOCK):
            if self._left is not None:
                self._left -= len(data)
                if self._left < 0:
                    self._left = None
                    await self._begin(Fault.STALL)
            if line.awaited is None:
                await self._forward(line, data, client)
            elif line.awaited in data:
                self._fault = None
                self.lost.set()
                line.cut(reset=True)
            else:
                await self._forward(line, data, client)

    async def _forward(self, line: Line, data: bytes, to: asyncio.StreamWriter) -> None:
        if line.stalled:
            await self._healed.wait()
        if self._fault is Fault.DELAY:
            await asyncio.sleep(DELAY_S)
        if self._fault is Fault.DRIP:
            for byte in data:
                to.write(bytes([byte]))
                await to.drain()
                await asyncio.sleep(0)
        else:
            to.write(data)
            await to.drain()


def _before_commit(line: Line, data: bytes) -> int | None:
    """Return where the request to commit begins, None if it does not: with COPYs, at their end."""
    if COMMIT in data:
        line.commits_behind_copy = COPY in data
        return None if COPY in data else data.index(COMMIT) - BEFORE_COMMIT
    if line.commits_behind_copy and data.endswith(COPY_DONE):
        line.commits_behind_copy = False
        return len(data) - len(COPY_DONE)
    return None


@contextmanager
def proxied(dsn: str, **parameters: str | int) -> Iterator[tuple[Proxy, str]]:
    """Put a proxy before the server of a DSN; give it, and the DSN that goes through it."""
    given = conninfo_to_dict(dsn)
    proxy = Proxy(str(given["host"]), int(given["port"] or 5432))
    try:
        through = {"host": "127.0.0.1", "port": proxy.port, **parameters}
        yield proxy, make_conninfo(dsn, **through)
    finally:
        proxy.close()

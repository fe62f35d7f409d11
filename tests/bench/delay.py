"""A line of any length: a TCP proxy through which all bytes pass, each of them later.

Unlike the faults' proxy it is a pipe, not a queue before a door: what is sent while something is
under way arrives as much later as that, not after it. No more is under way than a kernel's largest
window. Runs on a thread of its own, with an event loop of its own.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from psycopg.conninfo import conninfo_to_dict, make_conninfo

_BLOCK = 1 << 16

# As Linux has it by default (net.ipv4.tcp_wmem).
_WINDOW = 4 << 20


@dataclass(slots=True)
class _Pipe:
    """One direction of a connection."""

    delay_s: float
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    _under_way: deque[tuple[float, bytes]] = field(default_factory=deque)
    _size: int = 0
    _moved: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Pass all on, until one end is closed."""
        tasks = (asyncio.ensure_future(self._send()), asyncio.ensure_future(self._deliver()))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with suppress(OSError):
                self.writer.close()

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        while data := await self.reader.read(_BLOCK):
            self._under_way.append((loop.time() + self.delay_s, data))
            self._size += len(data)
            self._moved.set()
            while self._size > _WINDOW:
                self._moved.clear()
                await self._moved.wait()
        self._under_way.append((loop.time() + self.delay_s, b""))
        self._moved.set()

    async def _deliver(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not self._under_way:
                self._moved.clear()
                await self._moved.wait()
            due, data = self._under_way.popleft()
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            if not data:
                raise EOFError
            self.writer.write(data)
            await self.writer.drain()
            self._size -= len(data)
            self._moved.set()


@dataclass(slots=True)
class _Line:
    """All connections to one server."""

    host: str
    port: int
    delay_s: float
    """One way."""

    async def serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        """Pass one connection on."""
        answers, server = await asyncio.open_connection(self.host, self.port)
        pipes = (_Pipe(self.delay_s, reader, server), _Pipe(self.delay_s, answers, client))
        try:
            await asyncio.gather(*(pipe.run() for pipe in pipes))
        except asyncio.CancelledError:  # the line is taken away: no task of asyncio's own to fail
            server.transport.abort()
            client.transport.abort()


@contextmanager
def delayed(dsn: str, round_trip_s: float) -> Iterator[str]:
    """Put a long line before the server of a DSN; give the DSN that goes through it."""
    given = conninfo_to_dict(dsn)
    line = _Line(str(given["host"]), int(str(given["port"])), round_trip_s / 2)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def listen() -> asyncio.Server:
        return await asyncio.start_server(line.serve, "127.0.0.1", 0)

    async def close() -> None:
        listener.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    listener = asyncio.run_coroutine_threadsafe(listen(), loop).result(10)
    try:
        port = listener.sockets[0].getsockname()[1]
        yield make_conninfo(dsn, host="127.0.0.1", port=port)
    finally:
        asyncio.run_coroutine_threadsafe(close(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

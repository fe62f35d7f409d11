"""The spool read like a slot's stream: in order, and forgotten as far as the target has committed.

To a pipeline it is one more `Frames`. It hands out whole transactions only; when it has handed out
all, it says so (`caught_up`) and waits for more. Once told that there will be no more (`end`), it
ends with a keepalive whose WAL end is what the spool stands for.
"""

import asyncio
from collections import deque

from cdc.lsn import INVALID, Lsn
from cdc.sync.spool.store import Store
from cdc.sync.spool.thread import OneThread
from cdc.wire.replication import encode_primary_keepalive

# What the target has committed is dropped in lots of so many bytes.
FORGET_BYTES = 8 << 20


class Replay:
    """The only one who reads, and forgets."""

    def __init__(self, store: Store, thread: OneThread, appended: asyncio.Event) -> None:
        self._store = store
        self._thread = thread
        self._appended = appended
        self._next = store.first
        self._handed: deque[tuple[int, Lsn, int]] = deque()
        self._forget_size = 0
        self._flushed = self._applied = INVALID
        self._begun = self._ended = False
        self.caught_up = asyncio.Event()
        """Set when all that is there was handed out."""

    def end(self) -> None:
        """Nothing will be appended any more."""
        self._ended = True
        self._appended.set()

    async def receive(self) -> list[bytes]:
        """Return the frames of the next record; wait for it if there is none."""
        if not self._begun:
            self._begun = True
            if shapes := await self._thread.run(self._store.shapes):
                return shapes
        await self._forget(at_least=FORGET_BYTES)
        while (record := await self._thread.run(self._store.read, self._next)) is None:
            if self._ended:
                return [encode_primary_keepalive(self._store.held.upto)]
            self.caught_up.set()
            await self._appended.wait()
            self._appended.clear()
        self._handed.append((self._next, record.end_lsn, record.size))
        self._next += 1
        return record.frames

    def send_status(
        self, *, received: Lsn, flushed: Lsn, applied: Lsn, reply_requested: bool = False
    ) -> None:
        """Take note of what the target has committed."""
        del received, reply_requested
        self._flushed, self._applied = flushed, applied

    async def finish(self) -> None:
        """Forget all that the target has committed."""
        await self._forget(at_least=0)

    async def _forget(self, *, at_least: int) -> None:
        """Drop what is committed, if it is worth the writing."""
        number = size = seen = 0
        for one, lsn, bytes_ in self._handed:
            seen += bytes_
            if lsn > self._flushed:
                break
            if lsn:
                number, size = one, seen
        if number and size >= at_least:
            await self._thread.run(self._store.forget, number, self._applied)
            while self._handed and self._handed[0][0] <= number:
                self._handed.popleft()

"""Writes the stream into the spool, and lets the source forget what is durable there.

What is confirmed to the source is the end of the last whole transaction on disk, or the WAL end of
a keepalive noted there. Memory: what one `receive` returns, and one piece of a transaction.

Where the spool is full the writer waits while the target takes in what is there, which makes room;
else it raises SpoolFailed.
"""

import asyncio
import contextlib
from time import monotonic

from cdc.progress import Progress
from cdc.source.stream import ReplicationStream
from cdc.sync.feedback import Feedback
from cdc.sync.position import IdleFile
from cdc.sync.spool.failure import full
from cdc.sync.spool.gather import Gather
from cdc.sync.spool.record import Record
from cdc.sync.spool.store import Store
from cdc.sync.spool.thread import OneThread

# Small transactions that follow each other within this time share an fsync.
GATHER_S = 0.05
GATHER_FRAMES = 500

# While nothing is published, other WAL is noted this often.
IDLE_INTERVAL_S = 1.0

# How often a full spool is looked at for room.
ROOM_INTERVAL_S = 0.1


class Writer:
    """The only one who appends."""

    def __init__(
        self,
        stream: ReplicationStream,
        store: Store,
        thread: OneThread,
        idle_file: IdleFile,
        *,
        max_bytes: int,
    ) -> None:
        self._stream = stream
        self._store = store
        self._thread = thread
        self._max_bytes = max_bytes
        upto = store.held.upto
        # Pending for ever: where nothing is published, the spool notes it, not the idle pair.
        self.progress = Progress(upto, upto, upto, pending=True)
        self.feedback = Feedback(stream, self.progress, idle_file)
        self._gather = Gather(upto)
        self._noted = monotonic()
        self.appended = asyncio.Event()
        """Set when there is more to read."""
        self.draining = False
        """The target takes in what is there: where the spool is full, there will be room."""
        self._stopping = asyncio.Event()
        self._count()

    def stop(self) -> None:
        """End after what is being stored; the rest of it will be sent again."""
        self._stopping.set()
        self.progress.held_back = True  # what is replayed may take its time, and nothing is read

    async def run(self) -> None:
        """Store what comes, until told to stop."""
        self.progress.spooled_since = await self._thread.run(self._store.begins)
        while (frames := await self._receive()) is not None:
            self.progress.heard_at_s = monotonic()
            few = len(frames) < GATHER_FRAMES
            frames.reverse()
            while frames:
                if self._gather.add(frames.pop()):
                    self.feedback.request_reply()
            await self._store_gathered()
            if few:
                await self._stopped_within(GATHER_S)

    async def _receive(self) -> list[bytes] | None:
        """Return frames; None once we are to stop."""
        receive = asyncio.ensure_future(self._stream.receive())
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({receive, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return None if stopping.done() else receive.result()
        finally:
            receive.cancel()
            stopping.cancel()
            await asyncio.gather(receive, stopping, return_exceptions=True)

    async def _store_gathered(self) -> None:
        records, upto = self._gather.take(), self._gather.upto
        idle = not records and (
            upto <= self._store.held.upto or monotonic() - self._noted < IDLE_INTERVAL_S
        )
        if idle or not await self._has_room(records):
            return
        was_empty = self._store.empty
        await self._thread.run(self._store.append, records, upto)
        self._noted = monotonic()
        self.progress.apply(upto)
        if was_empty:
            self.progress.spooled_since = await self._thread.run(self._store.begins)
        self._count()
        self.feedback.wake()
        self.appended.set()

    def _count(self) -> None:
        self.progress.spooled_bytes = self._store.size
        # One that is still on its way is queued too: it may be all that there is, and large.
        self.progress.spooled_transactions = self._store.transactions + self._store.unfinished
        self.progress.spooled_after = None if self._store.empty else self._store.held.after

    async def _has_room(self, records: list[Record]) -> bool:
        """Wait for room where the target makes some; False if we are to stop meanwhile."""
        size = sum(record.size for record in records)
        while size and self._store.size + size > self._max_bytes:
            store = self._store
            if not self.draining or store.empty:
                held = store.transactions, store.held.upto
                raise full(store.path, store.size, self._max_bytes, *held)
            self.progress.held_back = True
            if await self._stopped_within(ROOM_INTERVAL_S):
                return False
            self.progress.read_on(monotonic())
        return True

    async def _stopped_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        return self._stopping.is_set()

"""The stream while it runs: three tasks on one loop, each the only owner of what it touches.

    receive    frames ─► messages ─► the batch in the making; hands it over     (here)
    apply      one batch at a time, each one transaction with its checkpoint    (`applier`)
    feedback   tells the source how far we are                                  (`feedback`)

A batch is handed over when the applier is free (so an idle pipeline is as fast as one row is), else
it grows, up to the limits; then `receive` waits, the server's send buffer fills, and the source
waits. That never stops `feedback`: a walsender that hears nothing ends the stream.

The pipeline ends when it is told to (`stop`), when all up to an LSN is on the target (`until`), or
with the first exception of a task. What happens to the target is mended by the applier; whatever
happens to the source ends the pipeline, and `daemon` begins another.

While another daemon stands by, the checkpoint on the target has to say all that there is to know:
what this one notes of idle times in its state directory, the other cannot see, and would halt. So
then nothing is confirmed beyond the checkpoint; to let WAL of others go, the checkpoint is moved.
"""

import asyncio
import contextlib
import logging
from dataclasses import dataclass

from cdc.changes.batch import Batch, BatchBuilder, TransactionEnd
from cdc.changes.policy import Policy
from cdc.changes.relations import QualifiedName, RelationCache
from cdc.lsn import Lsn
from cdc.progress import Progress
from cdc.settings import Settings, parse_table_name
from cdc.source.stream import ReplicationStream, clock_us
from cdc.sync.applier import Applier
from cdc.sync.decoding import Decoding
from cdc.sync.feedback import Feedback
from cdc.sync.position import IdleFile
from cdc.sync.tasks import first_error
from cdc.target.apply import Target
from cdc.wire.messages import Begin, Commit, Message, Relation
from cdc.wire.replication import PrimaryKeepalive, decode_frame
from cdc.wire.wal2json import ShapeUnknown

log = logging.getLogger(__name__)

# A batch in hand may take this long to finish once we are told to stop.
STOP_S = 7.0
FINISH_S = 2.0

# With a standby, so much WAL of others moves the checkpoint: a segment, less retains nothing.
MARK_BYTES = 16 << 20


@dataclass(slots=True)
class Limits:
    """When a pipeline ends by itself, and how long it waits for an absent target."""

    until: Lsn | None = None
    patience_s: float | None = None
    """None: as long as it takes."""


def policies(settings: Settings) -> dict[QualifiedName, Policy]:
    """Return what the settings say of single tables, by name."""
    return {
        parse_table_name(name): Policy(table.deletes, table.truncate, table.deleted_at)
        for name, table in settings.tables.items()
    }


class Pipeline:
    """One stream from one slot to one target."""

    def __init__(
        self,
        stream: ReplicationStream,
        decoding: Decoding,
        target: Target,
        progress: Progress,
        idle_file: IdleFile,
        *,
        settings: Settings,
        limits: Limits,
    ) -> None:
        self._stream = stream
        self._decoding = decoding
        self._progress = progress
        self._until = limits.until
        self._max_rows = settings.apply.max_rows
        self._max_bytes = settings.apply.max_bytes
        relations = RelationCache(target.primary_keys, policies(settings))
        self._builder = BatchBuilder(relations)
        self._feedback = Feedback(stream, progress, idle_file)
        self._applier = Applier(
            target,
            progress,
            idle_disconnect_s=settings.target.idle_disconnect,
            patience_s=limits.patience_s,
            applied=self._after_apply,
        )
        self._skipping = False
        self._hand_over_at_commit = False
        self._handing_over = False
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End after the batch in hand."""
        self._stopping.set()

    def heed_standby(self, *, present: bool) -> None:
        """Take note of whether another daemon stands by; move the checkpoint for it if need be."""
        if present and self._feedback.alone:
            log.info("another daemon stands by: the checkpoint is moved over idle times")
        self._feedback.alone = not present
        progress = self._progress
        beyond = max(progress.confirmed, progress.received - MARK_BYTES) > progress.applied
        if present and beyond and not progress.pending and self._applier.free:
            end = TransactionEnd(0, progress.received, clock_us())
            self._applier.put_nowait(Batch(transactions=[end]))
            self._note_pending()

    async def run(self, *, status_interval_s: float) -> None:
        """Stream until the end; an exception of a task comes out as it is."""
        try:
            async with asyncio.TaskGroup() as tasks:
                feedback = tasks.create_task(self._feedback.run(status_interval_s))
                apply = tasks.create_task(self._applier.run())
                await self._receive_until_stopped()
                await self._finish_applying(apply)
                feedback.cancel()
        except BaseExceptionGroup as group:
            raise first_error(group) from group
        await self._feedback.confirm(final=True)
        # A server that does not answer any more has read the last update, or will stream again.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FINISH_S):
                await self._stream.finish()

    async def _receive_until_stopped(self) -> None:
        receive = asyncio.ensure_future(self._receive())
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({receive, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if receive.done():
                receive.result()
        finally:
            receive.cancel()
            stopping.cancel()
            await asyncio.gather(receive, stopping, return_exceptions=True)

    async def _finish_applying(self, apply: asyncio.Task[None]) -> None:
        """Let the applier finish what it has; told to stop, not for longer than STOP_S."""
        try:
            async with asyncio.timeout(STOP_S if self._stopping.is_set() else None):
                await self._applier.put(None)
                await asyncio.shield(apply)
        except TimeoutError:
            log.warning("giving up the batch in hand: it will be sent again")
            await self._applier.abandon()
            apply.cancel()

    async def _receive(self) -> None:
        while not self._reached():
            frames = await self._stream.receive()
            # Each is let go of once it is read: one may be a value of hundreds of megabytes.
            frames.reverse()
            while frames:
                try:
                    full = self._receive_frame(frames)
                except ShapeUnknown as unknown:
                    full = await self._receive_again(unknown)
                if full:
                    await self._hand_over()
            if self._applier.free and self._builder.has_work:
                if self._builder.in_transaction:
                    self._hand_over_at_commit = True
                else:
                    await self._hand_over()
            # Frames may be there without end: the others get their turn here.
            await asyncio.sleep(0)
        if self._builder.has_work:
            await self._hand_over()

    def _receive_frame(self, frames: list[bytes]) -> bool:
        """Take in the last of the frames; return True if the batch is to be handed over now."""
        size = len(frames[-1])
        content = decode_frame(frames.pop())
        if isinstance(content, PrimaryKeepalive):
            self._receive_keepalive(content)
            return False
        return self._receive_payload(content.payload, size)

    def _receive_payload(self, payload: bytes, size: int) -> bool:
        full = False
        for message in self._decoding.decode(payload):
            full = self._receive_message(message, size)
            size = 0
        return full

    async def _receive_again(self, unknown: ShapeUnknown) -> bool:
        """Take in what can be understood once the source's catalog was looked at."""
        await self._decoding.learn(unknown)
        return self._receive_payload(unknown.payload, len(unknown.payload))

    def _receive_message(self, message: Message, size: int) -> bool:
        """Take in one message; return True if the batch is to be handed over after it."""
        if self._is_known(message):
            return False
        builder = self._builder
        builder.add(message, size)
        if isinstance(message, Commit):
            self._progress.receive(message.end_lsn)
            self._note_pending()
            if self._hand_over_at_commit and builder.has_work:
                return True
        elif isinstance(message, Begin):
            self._progress.pending = True
        full = builder.size >= self._max_bytes or builder.changes >= self._max_rows
        return full and builder.changes > 0

    def _receive_keepalive(self, keepalive: PrimaryKeepalive) -> None:
        if not self._builder.in_transaction and not self._skipping:
            self._progress.receive(keepalive.wal_end)
        if keepalive.reply_requested:
            self._feedback.request_reply()

    def _is_known(self, message: Message) -> bool:
        """Tell whether a message belongs to a transaction that the target holds already."""
        if isinstance(message, Begin):
            self._skipping = message.final_lsn < self._progress.applied
        # The shape of a relation is sent once, and holds for what comes after.
        known = self._skipping and not isinstance(message, Relation)
        if isinstance(message, Commit):
            self._skipping = False
        return known

    def _reached(self) -> bool:
        return (
            self._until is not None
            and self._progress.received >= self._until
            and not self._builder.in_transaction
        )

    async def _hand_over(self) -> None:
        self._hand_over_at_commit = False
        # Stays so if we are stopped in between: then the batch is dropped, and is never confirmed.
        self._handing_over = True
        await self._applier.put(self._builder.take())
        self._handing_over = False

    def _after_apply(self) -> None:
        # What was gathered meanwhile need not wait for the next frame, which may not come.
        if self._applier.free and self._builder.has_work and not self._builder.in_transaction:
            self._applier.put_nowait(self._builder.take())
        self._note_pending()
        self._feedback.wake()

    def _note_pending(self) -> None:
        builder = self._builder
        self._progress.pending = (
            self._handing_over
            or not self._applier.free
            or builder.has_work
            or builder.in_transaction
        )

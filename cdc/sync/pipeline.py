"""The stream while it runs: three tasks on one loop, each the only owner of what it touches.

    receive    frames ─► messages ─► the batch in the making; hands it over
    apply      owns the target: one batch at a time, each one transaction with its checkpoint
    feedback   tells the source how far we are, on time whatever the other two do

A batch is handed over when the applier is free (so an idle pipeline is as fast as one row is), else
it grows, up to the limits; then `receive` waits, the server's send buffer fills, and the source
waits. That never stops `feedback`: a walsender that hears nothing ends the stream.

The pipeline ends when it is told to (`stop`), when all up to an LSN is on the target (`until`), or
with the first exception of a task. Retrying on the target happens here, since the stream is worth
keeping while Neon wakes up; whatever happens to the source ends the pipeline, and `daemon` begins
another.
"""

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass
from time import monotonic

import psycopg

from cdc.backoff import Verdict, delays, judge
from cdc.changes.batch import Batch, BatchBuilder
from cdc.changes.relations import RelationCache
from cdc.errors import CdcError, PositionLost, Unavailable
from cdc.lsn import Lsn, format_lsn
from cdc.progress import Progress
from cdc.settings import Settings
from cdc.source.stream import ReplicationStream
from cdc.sync.position import IdleFile, IdlePair
from cdc.target.apply import Target
from cdc.wire.messages import Begin, Commit
from cdc.wire.pgoutput import decode
from cdc.wire.replication import PrimaryKeepalive, decode_frame

log = logging.getLogger(__name__)

# Without being asked, the server hears from us this often; a third of its patience if that is less.
STATUS_INTERVAL_S = 10.0

# Commits are confirmed as they come, but no more often than this: each confirmation costs the
# server a look at its slots.
CONFIRM_INTERVAL_S = 0.1

# A batch in hand may take this long to finish once we are told to stop.
STOP_S = 7.0

# Each status update asks for an answer, so a source that is silent for so long is gone.
SILENCE_S = 60.0


@dataclass(slots=True)
class Limits:
    """When a pipeline ends, and how long it waits for an absent target."""

    until: Lsn | None = None
    patience_s: float | None = None
    """None: as long as it takes."""


class Pipeline:
    """One stream from one slot to one target."""

    def __init__(
        self,
        stream: ReplicationStream,
        target: Target,
        progress: Progress,
        idle_file: IdleFile,
        *,
        settings: Settings,
        limits: Limits,
    ) -> None:
        self._stream = stream
        self._target = target
        self._progress = progress
        self._idle_file = idle_file
        self._idle_pair: IdlePair | None = None
        self._limits = limits
        self._max_rows = settings.apply.max_rows
        self._max_bytes = settings.apply.max_bytes
        self._idle_disconnect_s = settings.target.idle_disconnect
        self._builder = BatchBuilder(RelationCache(target.primary_keys))
        self._batches: asyncio.Queue[Batch | None] = asyncio.Queue(maxsize=1)
        self._applying = False
        self._skipping = False
        self._hand_over_at_commit = False
        self._waiting_for_applier = False
        self._reply_now = False
        self._wake_feedback = asyncio.Event()
        self._stopping = asyncio.Event()
        self._last_frame = monotonic()

    def stop(self) -> None:
        """End after the batch in hand."""
        self._stopping.set()

    async def run(self, *, status_interval_s: float) -> None:
        """Stream until the end; an exception of a task comes out as it is."""
        try:
            async with asyncio.TaskGroup() as tasks:
                feedback = tasks.create_task(self._feedback(status_interval_s), name="feedback")
                apply = tasks.create_task(self._apply(), name="apply")
                await self._until_stopped(self._receive())
                await self._finish_applying(apply)
                feedback.cancel()
        except BaseExceptionGroup as group:
            raise first_error(group) from group
        await self._confirm(final=True)
        await self._stream.finish()

    async def _until_stopped(self, work: Coroutine[None, None, None]) -> None:
        """Run `work` to its end, or until `stop`."""
        task = asyncio.ensure_future(work)
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
        finally:
            task.cancel()
            stopping.cancel()
            await asyncio.gather(task, stopping, return_exceptions=True)

    async def _finish_applying(self, apply: asyncio.Task[None]) -> None:
        """Let the applier finish what it has; told to stop, not for longer than STOP_S."""
        try:
            async with asyncio.timeout(STOP_S if self._stopping.is_set() else None):
                await self._batches.put(None)
                await asyncio.shield(apply)
        except TimeoutError:
            log.warning("giving up the batch in hand: it will be sent again")
            apply.cancel()

    # Receive

    async def _receive(self) -> None:
        while not self._reached():
            frames = await self._stream.receive()
            self._last_frame = monotonic()
            for frame in frames:
                if self._receive_frame(frame):
                    await self._hand_over()
            if self._free and self._builder.changes:
                if self._builder.in_transaction:
                    self._hand_over_at_commit = True
                else:
                    await self._hand_over()
            # Frames may be there without end: the others get their turn here.
            await asyncio.sleep(0)
        if self._builder.changes:
            await self._hand_over()

    def _receive_frame(self, frame: bytes) -> bool:
        """Take in one frame; return True if the batch is to be handed over now."""
        content = decode_frame(frame)
        if isinstance(content, PrimaryKeepalive):
            self._keepalive(content)
            return False
        message = decode(content.payload)
        if isinstance(message, Begin) and message.final_lsn < self._progress.applied:
            # The target holds this transaction: the server begins at what was confirmed.
            self._skipping = True
        if self._skipping:
            self._skipping = not isinstance(message, Commit)
            return False
        builder = self._builder
        builder.add(message, len(frame))
        if isinstance(message, Commit):
            self._progress.receive(message.end_lsn)
            self._note_pending()
            if self._hand_over_at_commit and builder.changes:
                return True
        elif isinstance(message, Begin):
            self._progress.pending = True
        return (
            builder.size >= self._max_bytes or builder.changes >= self._max_rows
        ) and builder.changes > 0

    def _keepalive(self, keepalive: PrimaryKeepalive) -> None:
        if not self._builder.in_transaction and not self._skipping:
            self._progress.receive(keepalive.wal_end)
        if keepalive.reply_requested:
            self._reply_now = True
            self._wake_feedback.set()

    def _reached(self) -> bool:
        until = self._limits.until
        return (
            until is not None
            and self._progress.received >= until
            and not self._builder.in_transaction
        )

    @property
    def _free(self) -> bool:
        return not self._applying and self._batches.empty()

    async def _hand_over(self) -> None:
        self._hand_over_at_commit = False
        self._waiting_for_applier = True
        await self._batches.put(self._builder.take())
        self._waiting_for_applier = False

    def _note_pending(self) -> None:
        builder = self._builder
        self._progress.pending = (
            not self._free or builder.changes > 0 or builder.in_transaction or self._skipping
        )

    # Apply

    async def _apply(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._idle_disconnect_s):
                    batch = await self._batches.get()
            except TimeoutError:
                if self._target.connected:
                    log.info("closing the idle session on the target")
                    await self._target.close()
                batch = await self._batches.get()
            if batch is None:
                return
            self._applying = True
            await self._apply_batch(batch)
            self._applying = False
            self._note_pending()
            self._wake_feedback.set()

    async def _apply_batch(self, batch: Batch) -> None:
        """Apply a batch, again if the target was away; the target says if it was committed."""
        before = self._target.checkpoint.lsn
        continues = self._target.in_transaction
        waits = delays()
        since = monotonic()
        while True:
            try:
                if await self._is_committed(batch, before):
                    break
                if (await self._target.apply(batch)).replayed:
                    self._progress.replays += 1
                break
            except (psycopg.Error, CdcError, OSError) as ex:
                if judge(ex) is not Verdict.RETRY:
                    raise
                await self._target.close()
                if continues:
                    # What came before of this transaction is gone with the session.
                    raise Unavailable("the target was lost inside a large transaction") from ex
                patience = self._limits.patience_s
                if patience is not None and monotonic() - since > patience:
                    raise Unavailable(
                        f"the target was away for {patience:.0f} s: {type(ex).__name__}",
                        hint="try again when it is back; nothing is lost while the slot keeps WAL",
                    ) from ex
                delay = next(waits)
                log.warning(
                    "the target is away: trying again",
                    extra={"error": type(ex).__name__, "delay_s": round(delay, 2)},
                )
                await asyncio.sleep(delay)
        self._note_applied(batch)

    async def _is_committed(self, batch: Batch, before: Lsn | None) -> bool:
        """Ask a target that was lost whether the COMMIT that was not answered came through."""
        if self._target.connected:
            return False
        found = (await self._target.open()).lsn
        if batch.final and found == batch.end_lsn:
            return True
        if found != before:
            raise PositionLost(
                f"the target's checkpoint went from {format_lsn(before or 0)} to"
                f" {format_lsn(found or 0)} while the daemon was not connected",
                hint="the target was restored: make a new copy (README, “When the slot is lost”)",
            )
        return False

    def _note_applied(self, batch: Batch) -> None:
        progress = self._progress
        progress.batches += 1
        progress.changes += batch.changes
        if batch.final:
            progress.transactions += len(batch.commits)
            progress.commit_time = batch.commit_time
            progress.apply(batch.end_lsn)

    # Feedback

    async def _feedback(self, interval_s: float) -> None:
        while True:
            self._check_silence()
            await self._confirm(final=False)
            await asyncio.sleep(CONFIRM_INTERVAL_S)
            if self._reply_now:
                continue
            try:
                async with asyncio.timeout(interval_s):
                    await self._wake_feedback.wait()
            except TimeoutError:
                self._reply_now = True
            self._wake_feedback.clear()

    def _check_silence(self) -> None:
        """End a stream whose server has vanished; while we do not read, silence means nothing."""
        if self._waiting_for_applier:
            self._last_frame = monotonic()
        if monotonic() - self._last_frame > SILENCE_S:
            raise Unavailable(f"the source has been silent for {SILENCE_S:.0f} s")

    async def _confirm(self, *, final: bool) -> None:
        """Send a status update; what lies beyond the checkpoint is on disk before it is sent."""
        progress = self._progress
        lsn = progress.confirmable
        applied = progress.applied
        due = final or self._reply_now
        if lsn > applied:
            known = self._idle_pair
            if known is None or known.checkpoint != applied or known.idle_confirmed < lsn:
                if due:
                    pair = IdlePair(applied, lsn)
                    await asyncio.to_thread(self._idle_file.save, pair)
                    self._idle_pair = pair
                else:
                    lsn = max(applied, progress.confirmed)
        if not due and lsn <= progress.confirmed:
            return
        self._stream.send_status(
            received=progress.received, flushed=lsn, applied=applied, reply_requested=not final
        )
        self._reply_now = False
        progress.confirm(lsn)


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the exception that counts: the first one that is not the end of a task."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            return first_error(error)
        if not isinstance(error, asyncio.CancelledError):
            return error
    return group

"""The stream while it runs: three tasks on one loop, each the only owner of what it touches.

    receive    frames ─► messages ─► the batch in the making; hands it over     (`receiver`)
    apply      one batch at a time, each one transaction with its checkpoint    (`applier`)
    feedback   tells the source how far we are                                  (`feedback`)

Where a table is to be copied, the stream stands still at the LSN of the copy's snapshot (`hold`).

A batch is handed over when the applier is free (so an idle pipeline is as fast as one row is), else
it grows, up to the limits; then `receive` waits, the server's send buffer fills, and the source
waits. That never stops `feedback`: a walsender that hears nothing ends the stream.

The pipeline ends when it is told to (`stop`), when all up to an LSN is on the target (`until`), or
with the first exception of a task. What happens to the target is mended by the applier; whatever
happens to the source ends the pipeline, and `daemon` begins another.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from time import monotonic

from cdc.changes.copies import Copies
from cdc.changes.relations import RelationCache
from cdc.lsn import Lsn
from cdc.observe.traces import Traces
from cdc.progress import Progress
from cdc.settings import Settings
from cdc.sync.applier import Applier
from cdc.sync.bursts import QUIET_S, Bursts
from cdc.sync.decoding import Decoding
from cdc.sync.feedback import Feedback
from cdc.sync.frames import Frames
from cdc.sync.hold import Hold
from cdc.sync.limits import Limits
from cdc.sync.position import IdleFile
from cdc.sync.receiver import Receiver, StandStill
from cdc.sync.standby import Standby
from cdc.target.apply import Target
from cdc.target.policies import policies
from cdc.tasks import first_error
from cdc.wire.messages import Begin
from cdc.wire.wal2json import ShapeUnknown

log = logging.getLogger(__name__)

# A batch in hand may take this long to finish once we are told to stop.
STOP_S = 7.0
FINISH_S = 2.0


class Pipeline:
    """One stream from one slot to one target."""

    def __init__(
        self,
        stream: Frames,
        decoding: Decoding,
        target: Target,
        progress: Progress,
        idle_file: IdleFile,
        *,
        copies: Copies,
        hold: Hold | None = None,
        settings: Settings,
        limits: Limits,
        heard: Callable[[bytes], None] = lambda _: None,
        wal_end: Callable[[], Awaitable[Lsn]] | None = None,
    ) -> None:
        """`hold` is of who copies tables beside it, for whom its end waits too; None: nobody does.

        `heard` is called with each logical message of ours that the stream holds.
        `wal_end` asks the source where its WAL ends; without it nothing is gathered for bursts.
        """
        self._stream = stream
        self._decoding = decoding
        self._progress = progress
        self._copies = copies
        self._hold = hold or Hold()
        self._awaits_copies = hold is not None
        self._target = target
        self._limits = limits
        self._relations = RelationCache(target.primary_keys, policies(settings), copies)
        self._traces = Traces()
        self._feedback = Feedback(stream, progress, idle_file, confirmed=self._traces.confirm)
        self._receiver = Receiver(
            decoding.decode,
            self._relations,
            progress,
            self._hold,
            settings.apply,
            reply=self._feedback.request_reply,
            heard=heard,
        )
        interval_s = 0 if limits.asked or wal_end is None else settings.apply.flush_interval
        self._bursts = Bursts(interval_s, wal_end)
        idle_s = settings.target.idle_disconnect
        self._applier = Applier(
            target,
            progress,
            idle_disconnect_s=min(idle_s, QUIET_S) if interval_s else idle_s,
            patience_s=limits.patience_s,
            away_s=limits.away_s,
            applied=self._after_apply,
        )
        self.standby = Standby(
            progress,
            self._feedback,
            self._applier,
            self._hold,
            comes_after=limits.asked and self._awaits_copies,
        )
        """To be told whether another daemon stands by."""
        self._handing_over = False
        self._free = asyncio.Event()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End after the batch in hand."""
        self._stopping.set()

    def end_at(self, lsn: Lsn) -> None:
        """End once all up to an LSN is on the target."""
        self._limits = replace(self._limits, until=lsn)

    async def run(self, *, status_interval_s: float) -> None:
        """Stream until the end; an exception of a task comes out as it is."""
        try:
            async with asyncio.TaskGroup() as tasks:
                feedback = tasks.create_task(self._feedback.run(status_interval_s))
                apply = tasks.create_task(self._applier.run())
                bursts = tasks.create_task(self._bursts.run(self._progress, offer=self._offer))
                await self._receive_until_stopped()
                await self._finish_applying(apply)
                if not self._stopping.is_set():
                    await self.standby.leave(self._target, self._copies)
                feedback.cancel()
                bursts.cancel()
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
                await self._applier.end()
                await asyncio.shield(apply)
        except TimeoutError:
            log.warning("giving up the batch in hand: it will be sent again")
            await self._applier.abandon()
            apply.cancel()

    async def _receive(self) -> None:
        while not self._reached():
            frames = await self._stream.receive()
            self._progress.heard_at_s = monotonic()
            frames.reverse()
            while frames:
                try:
                    full = self._receiver.take_in(frames)
                except ShapeUnknown as unknown:
                    full = await self._receive_again(unknown)
                except StandStill as held:
                    full = await self._receive_behind_hold(held.begin)
                if full:
                    await self._hand_over()
            if self._receiver.has_work:
                self._traces.come()
            self._note_pending()
            await self._stand_at_end()
            self._offer()
            # Frames may be there without end: the others get their turn here.
            await asyncio.sleep(0)
        if self._receiver.has_work:
            await self._hand_over()

    async def _receive_again(self, unknown: ShapeUnknown) -> bool:
        """Take in what can be understood once the source's catalog was looked at."""
        await self._decoding.learn(unknown)
        return self._receiver.take_in_payload(unknown.payload, len(unknown.payload))

    async def _receive_behind_hold(self, begin: Begin) -> bool:
        """Take in a Begin when the hold lets it through."""
        while not self._hold.lets_through(begin.final_lsn):
            await self._stand_still()
        return self._receiver.take_in_message(begin, 0)

    async def _stand_at_end(self) -> None:
        """Stand still where the source has nothing more before the hold's bound."""
        while (
            self._hold.bound is not None
            and self._progress.received >= self._hold.bound
            and self._receiver.between_transactions
        ):
            await self._stand_still()

    async def _stand_still(self) -> None:
        """Let the target come to the hold's bound, and wait until that is moved."""
        bound, exact = self._hold.bound, self._hold.exact
        self._bursts.begin()
        if self._receiver.has_work:
            await self._hand_over()
        self._progress.held_back = True
        while not self._applier.free:
            await self._until_freed()
        if exact and bound is not None:
            # Else transactions that were skipped, since a chunk would show them, came again behind.
            await self._target.move(bound)
            self._progress.apply(max(bound, self._progress.applied))
        if (bound, exact) == (self._hold.bound, self._hold.exact):
            await self._hold.stand()
        self._progress.read_on(monotonic())
        self._relations.refresh()

    def _reached(self) -> bool:
        if not self._limits.asked or self._receiver.in_transaction:
            return False
        if self._awaits_copies and self._copies.pending:
            return False
        until = self._limits.until
        return until is None or self._progress.received >= until

    def _offer(self) -> None:
        """Hand over what was gathered, if the applier is free and may have it."""
        receiver = self._receiver
        if self._applier.free and receiver.has_work and not self._bursts.resting:
            if receiver.in_transaction:
                receiver.due_at_commit = True
            else:
                self._put()
                self._note_pending()

    async def _hand_over(self) -> None:
        # Stays so if we are stopped in between: then the batch is dropped, and is never confirmed.
        self._handing_over = self._progress.held_back = True
        await self._bursts.wait()
        # Not before: what waits would wait in memory, and be received at the cost of who applies.
        while self._receiver.has_work and not self._applier.free:
            await self._until_freed()
        if self._receiver.has_work:
            self._put()
        self._handing_over = False
        self._progress.read_on(monotonic())

    def _put(self) -> None:
        batch = self._receiver.take()
        self._traces.hand_over(batch)
        self._applier.put_nowait(batch)

    async def _until_freed(self) -> None:
        self._free.clear()
        await self._free.wait()

    def _after_apply(self) -> None:
        self._traces.commit()
        if self._applier.free:
            self._free.set()
        # What was gathered meanwhile need not wait for the next frame, which may not come.
        self._offer()
        self._note_pending()
        self._feedback.wake()

    def _note_pending(self) -> None:
        progress = self._progress
        progress.unapplied = (
            self._handing_over
            or not self._applier.free
            or self._receiver.has_work
            or self._receiver.in_transaction
        )
        # What is left out since a copy will bring it is no nothing.
        progress.pending = progress.unapplied or self._copies.pending
        queued = self._receiver.size + self._applier.size
        progress.queued_bytes = queued if progress.unapplied else 0
        progress.heartbeat.arrive(progress.reached, monotonic())

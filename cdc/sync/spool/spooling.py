"""A turn by way of the spool: queue while the target is away, then catch up.

    queue      the stream is written into the spool and confirmed; the target is asked, with backoff
    replay     the target is back: a pipeline applies what is in the spool, while more is written
    hand over  all that was there is read: nothing more is written, the rest is applied, and the
               turn ends; the next one streams from the checkpoint, which is where the spool ends

So the order is the source's at all times, and there is one way only to apply a change. A target
that goes away again ends the turn, and another one like it begins. A transaction of which only a
part had come when the writing ended comes again from the source, whole.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from time import monotonic

import psycopg

from cdc.backoff import Verdict, delays, described, judge
from cdc.changes.copies import Copies
from cdc.errors import CdcError, PositionLost
from cdc.lsn import format_lsn
from cdc.postgres.session import Connection
from cdc.progress import Progress
from cdc.settings import Settings
from cdc.source.slot import busy, load_slot
from cdc.source.stream import ReplicationStream
from cdc.sync.decoding import Decoding
from cdc.sync.limits import Limits
from cdc.sync.pipeline import FINISH_S, Pipeline
from cdc.sync.position import IdleFile, check_identity, check_spool, require_slot, spool_from
from cdc.sync.spool.replay import Replay
from cdc.sync.spool.store import Store
from cdc.sync.spool.thread import OneThread
from cdc.sync.spool.writer import Writer
from cdc.sync.start import identify
from cdc.target.apply import Target
from cdc.target.checkpoint import Checkpoint
from cdc.target.connection import connect_target
from cdc.target.ledger import record_gap
from cdc.tasks import first_error

log = logging.getLogger(__name__)


async def start_spooling(
    stream: ReplicationStream,
    source: Connection,
    target: Target,
    idle_file: IdleFile,
    store: Store,
    *,
    settings: Settings,
) -> None:
    """Begin to stream after what the spool holds. The target is not asked: it may be away.

    Nothing is confirmed behind changes that could not be replayed: all of them are read first.
    """
    identity = identify(stream, settings)
    await asyncio.to_thread(store.verify)
    slot = await load_slot(source, identity.slot)
    if slot is not None and slot.active:
        raise busy(identity.slot, slot)
    where = f"the spool ends at {format_lsn(store.held.upto)}"
    slot = require_slot(slot, identity.slot, where)
    known = target.known_checkpoint
    if known is not None:
        check_identity(known, identity)
    held = spool_from(known, slot, idle_file.load(), store.held, empty=store.empty)
    await stream.start(settings.source, held.upto)
    store.begin(held)


class Spooling:
    """The turn, once the stream has started."""

    def __init__(
        self,
        stream: ReplicationStream,
        target: Target,
        store: Store,
        idle_file: IdleFile,
        *,
        settings: Settings,
        limits: Limits,
        load_copies: Callable[[], Awaitable[Copies]],
    ) -> None:
        """`load_copies` asks the target, once it is there, which tables are being copied."""
        self._load_copies = load_copies
        self._stream = stream
        self._target = target
        self._store = store
        self._idle_file = idle_file
        self._settings = settings
        # Where it ends is ours to say.
        self._limits = Limits(patience_s=limits.patience_s, away_s=limits.away_s)
        self._identity = identify(stream, settings)
        self._thread = OneThread()
        self._writer = Writer(
            stream, store, self._thread, idle_file, max_bytes=settings.spool.max_bytes
        )
        self._pipeline: Pipeline | None = None
        self._stopping = asyncio.Event()

    @property
    def progress(self) -> Progress:
        """How far the stream is, and what is in the spool."""
        return self._writer.progress

    def stop(self) -> None:
        """End after the batch in hand; what is queued stays queued."""
        self._stopping.set()
        if self._pipeline is not None:
            self._pipeline.stop()

    async def run(self, *, status_interval_s: float) -> None:
        """Queue and replay until the spool is empty or we are told to stop."""
        feedback = self._writer.feedback
        if not self._settings.spool.max_bytes:
            self._writer.stop()  # it was turned off since: only what is there is still due
        try:
            async with asyncio.TaskGroup() as tasks:
                telling = tasks.create_task(feedback.run(status_interval_s))
                writing = tasks.create_task(self._writer.run())
                await self._replay(writing, status_interval_s)
                self._writer.stop()
                await writing
                telling.cancel()
        except BaseExceptionGroup as group:
            raise first_error(group) from group
        finally:
            self._thread.close()
        await feedback.confirm(final=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FINISH_S):
                await self._stream.finish()

    async def _replay(self, writing: asyncio.Task[None], interval_s: float) -> None:
        checkpoint = await self._await_target()
        if checkpoint is None:
            return
        await self._check(checkpoint)
        assert checkpoint.lsn is not None
        store, at = self._store, checkpoint.lsn
        log.info(
            "the target is there: replaying what was queued",
            extra={"bytes": store.size, "transactions": store.transactions},
        )
        replay = Replay(store, self._thread, self._writer.appended)
        self._writer.draining = True
        replaying = Progress(at, at, at, counts=self.progress.counts)
        self.progress.replaying = replaying
        self._pipeline = Pipeline(
            replay,
            Decoding(),
            self._target,
            replaying,
            self._idle_file,
            copies=await self._load_copies(),
            settings=self._settings,
            limits=self._limits,
        )
        if self._stopping.is_set():
            self._pipeline.stop()
        handing_over = asyncio.create_task(self._hand_over(self._pipeline, replay, writing))
        try:
            await self._pipeline.run(status_interval_s=interval_s)
        finally:
            handing_over.cancel()
            await asyncio.gather(handing_over, return_exceptions=True)
        if not self._stopping.is_set():
            # All of it is on the target, some perhaps since before it was queued.
            assert self._target.checkpoint.lsn is not None
            await self._thread.run(store.forget, store.last, self._target.checkpoint.lsn)
            log.info("all that was queued is applied")

    async def _hand_over(
        self, pipeline: Pipeline, replay: Replay, writing: asyncio.Task[None]
    ) -> None:
        """Once all is read, end the writing, then the reading."""
        await replay.caught_up.wait()
        self._writer.stop()
        await asyncio.wait({writing})
        pipeline.end_at(self._store.held.upto)
        replay.end()

    async def _await_target(self) -> Checkpoint | None:
        """Return the target's checkpoint once it answers; None if we are to stop before."""
        waits, since, patience_s = delays(), monotonic(), self._limits.patience_s
        while not self._stopping.is_set():
            try:
                return await self._open_target()
            except (psycopg.Error, CdcError, OSError) as ex:
                if judge(ex) is not Verdict.RETRY:
                    raise
                if patience_s is not None and monotonic() - since > patience_s:
                    raise
                delay = next(waits)
                extra = {"error": described(ex), "delay_s": round(delay, 2)}
                log.warning("the target is away: changes are queued", extra=extra)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._stopping.wait()
        return None

    async def _open_target(self) -> Checkpoint | None:
        """Connect to the target, but not for longer than until we are to stop."""
        opening = asyncio.ensure_future(self._target.open())
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({opening, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return opening.result() if opening.done() else None
        finally:
            opening.cancel()
            stopping.cancel()
            await asyncio.gather(opening, stopping, return_exceptions=True)

    async def _check(self, checkpoint: Checkpoint) -> None:
        """Find out whether what is queued goes on where the target stands."""
        check_identity(checkpoint, self._identity)
        held = self._store.held
        try:
            check_spool(checkpoint, self._idle_file.load(), held)
        except PositionLost as ex:
            slot = self._identity.slot
            async with await connect_target(self._settings.target.require_dsn()) as target:
                await record_gap(target, slot, ex.message, after=checkpoint.lsn, until=held.after)
            raise

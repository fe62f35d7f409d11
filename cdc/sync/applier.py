"""Takes batches from a queue of one and applies them, again and again if the target is away.

A target that is away must not cost the stream: the batch waits here, with backoff, while feedback
goes on. Whether a COMMIT that was not answered came through is read from the checkpoint. After a
while without changes the session is closed, and nothing asks the target until there are some.
"""

import asyncio
import logging
from collections.abc import Callable
from time import monotonic

import psycopg

from cdc.backoff import Verdict, delays, described, ends_session, judge
from cdc.changes.batch import Batch
from cdc.errors import CdcError, PositionLost, TargetAway, Unavailable
from cdc.lsn import Lsn, format_lsn
from cdc.observe.instruments import BATCH_DURATION, BATCH_SIZE
from cdc.progress import Progress
from cdc.target.apply import Target

log = logging.getLogger(__name__)


class _PartlyApplied(Unavailable):
    """A replay was cut off between two transactions: only a new stream brings the rest alone."""


class Applier:
    """The only writer to the target while a pipeline runs."""

    def __init__(
        self,
        target: Target,
        progress: Progress,
        *,
        idle_disconnect_s: float,
        patience_s: float | None,
        away_s: float | None = None,
        applied: Callable[[], None],
    ) -> None:
        self._target = target
        self._progress = progress
        self._idle_disconnect_s = idle_disconnect_s
        self._patience_s = patience_s
        self._away_s = away_s
        self._applied = applied
        self._batches: asyncio.Queue[Batch | None] = asyncio.Queue(maxsize=1)
        self._transactions = 0
        self._applying = False
        self.size = 0
        """Bytes received for the batch in hand, or the one that waits."""

    @property
    def free(self) -> bool:
        """Nothing is being applied and nothing waits."""
        return not self._applying and self._batches.empty()

    async def end(self) -> None:
        """Let `run` return after what it has."""
        await self._batches.put(None)

    def put_nowait(self, batch: Batch) -> None:
        """Hand over a batch to an applier that is free."""
        self._batches.put_nowait(batch)
        self.size = batch.size
        self._progress.counts.receive(batch.tallies)

    async def abandon(self) -> None:
        """Cut off the target's session, which may not answer any more."""
        await self._target.abandon()

    async def run(self) -> None:
        """Apply what comes, until the end."""
        while (batch := await self._next()) is not None:
            self._applying = True
            since, retries = monotonic(), self._progress.counts.retries
            replayed = await self._apply(batch)
            if self._progress.counts.retries > retries:
                log.info("the target is there again, and has taken what waited")
            BATCH_DURATION.record(monotonic() - since)
            BATCH_SIZE.record(batch.changes)
            self._note(batch, replayed=replayed)
            self._applying, self._progress.asking_since_s = False, None
            self.size = 0
            self._applied()

    async def _next(self) -> Batch | None:
        try:
            async with asyncio.timeout(self._idle_disconnect_s):
                return await self._batches.get()
        except TimeoutError:
            # An open transaction waits for its rest, however slowly the source sends it.
            if self._target.connected and not self._target.in_transaction:
                log.info("closing the idle session on the target")
                await self._target.close()
        return await self._batches.get()

    async def _apply(self, batch: Batch) -> bool:
        """Apply a batch, however long it takes; return True if it had to be replayed."""
        before = self._target.checkpoint.lsn
        continues = self._target.in_transaction
        rested = self._target.connected and not continues
        waits, since = delays(), monotonic()
        while True:
            self._progress.asking_since_s = monotonic()
            try:
                if await self._is_committed(batch, before):
                    return False
                return await self._target.apply(batch)
            except _PartlyApplied:
                raise
            except (psycopg.Error, CdcError, OSError) as ex:
                self._progress.counts.fail(ex.sqlstate if isinstance(ex, psycopg.Error) else None)
                if judge(ex) is not Verdict.RETRY:
                    raise
                await self._target.close()
                if continues:
                    # What came before of this transaction is gone with the session.
                    raise Unavailable("the target was lost inside a large transaction") from ex
                if rested and ends_session(ex):
                    # A compute that was suspended has ended the session, and wakes up for another.
                    rested = False
                    log.info("the session was ended at rest: connecting anew")
                    continue
                self._give_up(ex, monotonic() - since)
                self._progress.asking_since_s = None
                delay = next(waits)
                log.warning(
                    "the target is away or busy: trying again",
                    extra={"error": described(ex), "delay_s": round(delay, 2)},
                )
                await asyncio.sleep(delay)
            self._progress.counts.retries += 1

    def _give_up(self, error: BaseException, away_s: float) -> None:
        """Raise if the target has been away for too long."""
        if self._patience_s is not None and away_s > self._patience_s:
            raise Unavailable(
                f"the target was away for {self._patience_s:.0f} s: {described(error)}",
                hint="try again when it is back; nothing is lost while the slot keeps WAL",
            ) from error
        if self._away_s is not None and away_s > self._away_s:
            raise TargetAway(f"the target is away: {described(error)}") from error

    async def _is_committed(self, batch: Batch, before: Lsn | None) -> bool:
        """Ask a target that was away whether the COMMIT that was not answered came through."""
        if self._target.connected:
            return False
        found = (await self._target.open()).lsn
        if batch.final and found == batch.end_lsn:
            return True
        if any(end.lsn == found for end in batch.transactions):
            raise _PartlyApplied("the target was lost after some transactions of a batch")
        if found != before:
            raise PositionLost(
                f"the target's checkpoint went from {format_lsn(before or 0)} to"
                f" {format_lsn(found or 0)} while the daemon was not connected",
                hint="the target was restored: make a new copy (README, “When the slot is lost”)",
            )
        return False

    def _note(self, batch: Batch, *, replayed: bool) -> None:
        progress, counts = self._progress, self._progress.counts
        last = batch.transactions[-1].commit_time if batch.transactions else 0
        counts.apply(batch.tallies, last, monotonic(), replayed=replayed)
        self._transactions += len(batch.transactions)
        if batch.final:
            counts.transactions += self._transactions
            self._transactions = 0
            progress.commit_time = last
            progress.apply(batch.end_lsn)

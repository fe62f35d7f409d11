"""Tells the source how far we are: on time, whatever the rest of the pipeline does.

Three things move it: a batch was committed, the server asked, a second or an interval has passed.
Only what the target has committed is confirmed; while nothing is pending, all that has come is, but
not before the pair that says so is on disk (`sync.position`).

Each status update asks for an answer, so that a source that is there is never silent for long
(`postgres.watch` notices one that is gone).
"""

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable
from time import monotonic

from cdc.backoff import Verdict, described, judge
from cdc.lsn import Lsn
from cdc.progress import Progress
from cdc.source.stream import ReplicationStream
from cdc.sync.frames import Frames
from cdc.sync.position import IdleFile, IdlePair

# Without being asked, the server hears from us this often; a third of its patience if that is less.
STATUS_INTERVAL_S = 10.0

# Commits are confirmed as they come, but no more often than this: each confirmation costs the
# server a look at its slots.
CONFIRM_INTERVAL_S = 0.1

# While nothing is published, other WAL is confirmed this often: an fsync here each time.
IDLE_INTERVAL_S = 1.0

COMPLAIN_INTERVAL_S = 60.0

log = logging.getLogger(__name__)


class Feedback:
    """The only writer to the stream."""

    def __init__(
        self,
        stream: Frames,
        progress: Progress,
        idle_file: IdleFile,
        *,
        confirmed: Callable[[Lsn], None] = lambda _: None,
    ) -> None:
        """Tell a stream; call `confirmed` with what the source was told that it may forget."""
        self._stream = stream
        self._progress = progress
        self._idle_file = idle_file
        self._confirmed = confirmed
        self._idle_pair: IdlePair | None = None
        self._saving: asyncio.Future[None] | None = None
        self._wake = asyncio.Event()
        self._reply_now = False
        self._complained = -math.inf
        self.alone = True
        """No other daemon stands by: what is noted in our state directory is all that counts."""
        self._last_status = self._pair_saved = monotonic()

    def wake(self) -> None:
        """Look for something to confirm."""
        self._wake.set()

    def request_reply(self) -> None:
        """Send a status update now: the server asked."""
        self._reply_now = True
        self._wake.set()

    async def run(self, interval_s: float) -> None:
        """Confirm until cancelled."""
        while True:
            await self.confirm()
            await asyncio.sleep(CONFIRM_INTERVAL_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(IDLE_INTERVAL_S):
                    await self._wake.wait()
            self._wake.clear()
            if monotonic() - self._last_status > interval_s:
                self._reply_now = True

    async def confirm(self, *, final: bool = False) -> None:
        """Send a status update if there is news, or if it is time for one."""
        progress = self._progress
        lsn, applied = progress.confirmable, progress.applied
        if lsn > applied:
            lsn = await self._cover(applied, lsn, now=final or self._reply_now)
        if lsn > progress.confirmed or final or self._reply_now:
            self._stream.send_status(
                received=progress.received, flushed=lsn, applied=applied, reply_requested=not final
            )
            self._reply_now = False
            self._last_status = monotonic()
            progress.confirm(lsn)
            self._confirmed(lsn)

    async def _cover(self, applied: Lsn, idle: Lsn, *, now: bool) -> Lsn:
        """Return how far beyond the checkpoint may be confirmed: as the pair on disk says."""
        pair = self._idle_pair
        covered = applied
        if pair is not None and pair.checkpoint == applied:
            covered = pair.idle_confirmed
        if (
            covered < idle
            and self.alone
            and (now or monotonic() - self._pair_saved > IDLE_INTERVAL_S)
        ):
            self._pair_saved = monotonic()
            pair = IdlePair(applied, idle)
            if await self._save(pair):
                self._idle_pair = pair
                return idle
        return covered

    async def _save(self, pair: IdlePair) -> bool:
        """Put a pair on disk; False, and a word about it now and then, while there is no room.

        Changes go on meanwhile: all that it costs is WAL, which the source keeps.
        """
        # A save that is cut off goes on in its thread: the next one waits for its end.
        if self._saving is not None:
            await asyncio.wait([self._saving])
        self._saving = asyncio.ensure_future(asyncio.to_thread(self._idle_file.save, pair))
        try:
            await asyncio.shield(self._saving)
        except OSError as ex:
            if judge(ex) is not Verdict.RETRY:
                raise
            if monotonic() - self._complained > COMPLAIN_INTERVAL_S:
                self._complained = monotonic()
                log.warning(
                    "the state directory cannot be written to: WAL of others is not confirmed",
                    extra={"error": described(ex), "hint": "make room on the disk of state.dir"},
                )
            return False
        return True


async def status_interval(stream: ReplicationStream) -> float:
    """Return how often source and daemon hear from each other: thrice in the patience of both."""
    patience = [await stream.sender_timeout_s(), stream.patience_s]
    return min([STATUS_INTERVAL_S, *(each / 3 for each in patience if each)])

"""While another daemon may take over, the checkpoint on the target says all that there is to know.

What this daemon notes of idle times in its state directory, one on another machine cannot see: it
would find the source confirmed beyond the checkpoint, and halt. So while one stands by, nothing is
confirmed beyond the checkpoint; to let WAL of others go, the checkpoint itself is moved over it, a
segment at a time. Who stands by shows itself by a lock on the source (`source.lease`).

After a command with an end somebody goes on, nobody knows where: so it does the same all the while,
and at its end the checkpoint is moved to where the source is confirmed.
"""

import logging

from cdc.changes.batch import Batch, TransactionEnd
from cdc.changes.copies import Copies
from cdc.progress import Progress
from cdc.source.stream import clock_us
from cdc.sync.applier import Applier
from cdc.sync.feedback import Feedback
from cdc.sync.hold import Hold
from cdc.target.apply import Target

log = logging.getLogger(__name__)

# So much WAL of others moves the checkpoint: a segment, since less retains nothing.
MARK_BYTES = 16 << 20


class Standby:
    """What a pipeline does about another daemon that may take over."""

    def __init__(
        self,
        progress: Progress,
        feedback: Feedback,
        applier: Applier,
        hold: Hold,
        *,
        comes_after: bool,
    ) -> None:
        """`comes_after`: it does, when the end is reached that was asked for."""
        self._comes_after = comes_after
        feedback.alone = not comes_after
        self._progress = progress
        self._feedback = feedback
        self._applier = applier
        self._hold = hold

    def heed(self, *, present: bool, followed: bool) -> None:
        """Take note of whether there is one; move the checkpoint for it if need be.

        `followed`: it waits for the checkpoint itself, however little it has to move.
        """
        present = present or self._comes_after
        if present and self._feedback.alone:
            log.info("another daemon stands by: the checkpoint is moved over idle times")
        self._feedback.alone = not present
        progress = self._progress
        mark = progress.received - (0 if followed else MARK_BYTES)
        beyond = max(progress.confirmed, mark) > progress.applied
        busy = progress.pending or not self._applier.free or self._hold.bound is not None
        if present and beyond and not busy:
            at = clock_us()
            progress.begin(at)
            end = TransactionEnd(0, progress.received, at)
            self._applier.put_nowait(Batch(transactions=[end]))

    async def leave(self, target: Target, copies: Copies) -> None:
        """Have the checkpoint stand for all that came, when the applier has come to its end."""
        progress = self._progress
        if self._comes_after and not (progress.pending or copies.pending):
            await target.move(progress.received)
            progress.apply(progress.received)

"""Frames into messages, and these into the batch in the making; no await, so nobody comes between.

What the target holds already is passed over. A Begin from the hold's bound on is not taken in: it
is raised (`StandStill`), to come again when the bound is moved.
"""

from collections.abc import Callable

from cdc.changes.batch import Batch, BatchBuilder
from cdc.changes.relations import RelationCache
from cdc.progress import Progress
from cdc.settings import ApplySettings
from cdc.source.slot import PREFIX
from cdc.sync.decoding import Decode
from cdc.sync.hold import Hold
from cdc.wire.messages import Begin, Commit, LogicalMessage, Message, Relation
from cdc.wire.replication import PrimaryKeepalive, decode_frame, payload_of


class StandStill(Exception):
    """A transaction is to wait for the copy of a table."""

    def __init__(self, begin: Begin) -> None:
        super().__init__()
        self.begin = begin


class Receiver:
    """What one stream has brought, and what is still to be handed over of it."""

    def __init__(
        self,
        decode: Decode,
        relations: RelationCache,
        progress: Progress,
        hold: Hold,
        limits: ApplySettings,
        *,
        reply: Callable[[], None],
        heard: Callable[[bytes], None],
    ) -> None:
        """Gather for a pipeline.

        `reply` is called when the server wants to hear from us, `heard` with each message of ours
        that the stream holds.
        """
        self._decode = decode
        self._builder = BatchBuilder(relations)
        self._progress = progress
        self._hold = hold
        self._max_rows, self._max_bytes = limits.max_rows, limits.max_bytes
        self._reply = reply
        self._heard = heard
        self._skipping = False
        self._before = self._largest = 0.0
        self.due_at_commit = False
        """The applier is free: what there is goes to it with the next Commit."""

    @property
    def has_work(self) -> bool:
        """There is something for the target."""
        return self._builder.has_work

    @property
    def size(self) -> int:
        """Bytes gathered."""
        return self._builder.size

    @property
    def in_transaction(self) -> bool:
        """A transaction has begun that the target does not hold."""
        return self._builder.in_transaction

    @property
    def between_transactions(self) -> bool:
        """Nothing has begun that has not ended."""
        return not self._builder.in_transaction and not self._skipping

    def take(self) -> Batch:
        """Return what there is for the target, and begin anew."""
        self.due_at_commit = False
        self._before = self._largest = 0.0
        return self._builder.take()

    def take_in(self, frames: list[bytes]) -> bool:
        """Take in frames from the end of a list, and let go of each: it may be a large one.

        Returns True if what there is has to be handed over now, whether or not frames are left.
        Raises StandStill, and ShapeUnknown where the decoding has to learn something first.
        """
        while frames:
            frame = frames.pop()
            payload, size = payload_of(frame), len(frame)
            if payload is None:
                content = decode_frame(frame)
                assert isinstance(content, PrimaryKeepalive), "else it has a payload"
                self._take_in_keepalive(content)
                continue
            # A value of hundreds of megabytes is in libpq, in the payload and by itself already.
            del frame
            if self.take_in_payload(payload, size):
                return True
        return False

    def take_in_payload(self, payload: bytes, size: int) -> bool:
        """Take in what an XLogData holds, as `take_in` does."""
        full = False
        for message in self._decode(payload):
            full = self.take_in_message(message, size)
            size = 0
        return full

    def take_in_message(self, message: Message, size: int) -> bool:
        """Take in a message, as `take_in` does."""
        if self._is_known(message):
            return False
        builder = self._builder
        builder.add(message, size)
        if isinstance(message, Commit):
            self._progress.receive(message.end_lsn)
            return self._is_due()
        if isinstance(message, Begin):
            self._progress.begin(message.commit_time)
        elif isinstance(message, LogicalMessage) and message.prefix == PREFIX:
            self._heard(message.content)
        full = builder.size >= self._max_bytes or builder.changes >= self._max_rows
        return full and builder.changes > 0

    def _is_due(self) -> bool:
        """Tell whether a batch ends with the transaction that ends here.

        Also where the next one might not fit: cut by the limit, it would keep the target's open
        until one ends where a batch does.
        """
        builder = self._builder
        fullness = max(builder.changes / self._max_rows, builder.size / self._max_bytes)
        self._largest = max(self._largest, fullness - self._before)
        self._before = fullness
        full = fullness + 2 * self._largest > 1
        return builder.has_work and (self.due_at_commit or full)

    def _take_in_keepalive(self, keepalive: PrimaryKeepalive) -> None:
        if self.between_transactions:
            self._progress.receive(keepalive.wal_end)
        if keepalive.reply_requested:
            self._reply()

    def _is_known(self, message: Message) -> bool:
        """Tell whether a message belongs to a transaction that the target holds already."""
        if isinstance(message, Begin):
            if not self._hold.lets_through(message.final_lsn):
                raise StandStill(message)
            self._skipping = message.final_lsn < self._progress.applied
        # The shape of a relation is sent once, and holds for what comes after.
        known = self._skipping and not isinstance(message, Relation)
        if isinstance(message, Commit):
            self._skipping = False
        return known

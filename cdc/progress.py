"""How far the stream has come: one object, written by the pipeline, read by whoever reports.

    confirmed ≤ received      what the source may forget; what has come from it
    applied   ≤ received      the checkpoint that the target has committed

`received` is such that all that was committed before it has come: the end of the last Commit, or
the WAL end of a keepalive. So where nothing is pending, it may be confirmed as it is, though the
target's checkpoint is older: between the two nothing was published (invariant 2).
"""

from dataclasses import dataclass, field

from cdc.counts import Counts
from cdc.heartbeat import Heartbeat
from cdc.lsn import Lsn


@dataclass(slots=True)
class Progress:
    """LSNs since this process connected to the source; what it counts outlives the connection."""

    received: Lsn
    applied: Lsn
    confirmed: Lsn
    pending: bool = False
    """The checkpoint does not stand for all that came: what `unapplied` says, or a copy is due."""
    unapplied: bool = False
    """Changes have come that the target has not committed, or a transaction is on its way."""
    since: int = 0
    """Commit time of the first transaction that came while nothing was unapplied, µs since
    2000-01-01 by the source's clock."""
    commit_time: int = 0
    """Of the last applied transaction, alike."""
    queued_bytes: int = 0
    """Received for the target and in our memory."""
    spooled_bytes: int = 0
    spooled_transactions: int = 0
    """Queued on our own disk; then `applied` is what is durable there."""
    spooled_since: int | None = None
    """Commit time of the first transaction that was queued, alike; None: nothing is."""
    spooled_after: Lsn | None = None
    """All before it is on the target, where something is queued on disk."""
    replaying: "Progress | None" = None
    """Of what is read from the disk again, once the target is back."""
    heard_at_s: float = 0.0
    """When the stream brought something last, be it a keepalive, or began to be read again; by a
    clock that never jumps."""
    held_back: bool = False
    """The stream is not read on purpose: for the applier, for a copy, or until the next burst."""
    asking_since_s: float | None = None
    """Since when the applier has the target write a batch, by the same clock; None: it has none in
    hand, or waits to try again."""
    counts: Counts = field(default_factory=Counts)
    heartbeat: Heartbeat = field(default_factory=Heartbeat)

    def begin(self, commit_time: int) -> None:
        """Note that a transaction has begun to come."""
        if not self.unapplied:
            self.since = commit_time
            self.unapplied = self.pending = True

    def read_on(self, at_s: float) -> None:
        """Note that the stream is read again: until now its silence was ours."""
        self.held_back = False
        self.heard_at_s = at_s

    def receive(self, lsn: Lsn) -> None:
        """Note that all that was committed before `lsn` has come."""
        self.received = max(self.received, lsn)

    def apply(self, lsn: Lsn) -> None:
        """Note what the target has committed."""
        assert lsn >= self.applied, "the checkpoint never goes back"
        self.applied = lsn
        self.received = max(self.received, lsn)

    def confirm(self, lsn: Lsn) -> None:
        """Note what the source was told that it may forget."""
        assert lsn <= self.received, "never confirm what has not come"
        self.confirmed = max(self.confirmed, lsn)

    @property
    def confirmable(self) -> Lsn:
        """What the source may forget: the checkpoint; where nothing is pending, all that came."""
        return self.applied if self.pending else max(self.applied, self.received)

    @property
    def reached(self) -> Lsn:
        """Up to where the target lacks nothing that was committed, but for what is to be copied."""
        idle = self.spooled_after is None and not self.unapplied
        return max(self.applied, self.received) if idle else self.checkpoint

    @property
    def checkpoint(self) -> Lsn:
        """What the target has committed; of what is queued on disk, as far as we know."""
        if self.spooled_after is None:
            return self.applied
        return self.spooled_after if self.replaying is None else self.replaying.applied

    @property
    def oldest(self) -> int | None:
        """Commit time of the oldest transaction that is not applied, or a little before it.

        None: all that came is applied; or it is queued on disk, and nobody knows.
        """
        replaying = self.replaying
        if replaying is not None and replaying.unapplied:
            return replaying.oldest
        if self.spooled_transactions and self.spooled_since is not None:
            # What was applied of it already was there before the rest.
            return max(self.spooled_since, 0 if replaying is None else replaying.commit_time)
        return max(self.since, self.commit_time) if self.unapplied else None


@dataclass(slots=True)
class CopyProgress:
    """How far the copies of tables have come."""

    tables: int = 0
    tables_done: int = 0
    chunks: int = 0
    chunks_done: int = 0
    rows: int = 0
    bytes: int = 0
    estimated_rows: int = 0
    """By the source's statistics; a table never analysed counts as empty."""
    complete: bool = False

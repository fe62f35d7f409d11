"""How far the stream has come: one object, written by the pipeline, read by whoever reports.

    confirmed ≤ received      what the source may forget; what has come from it
    applied   ≤ received      the checkpoint that the target has committed

`received` is such that all that was committed before it has come: the end of the last Commit, or
the WAL end of a keepalive. So where nothing is pending, it may be confirmed as it is, though the
target's checkpoint is older: between the two nothing was published (invariant 2).
"""

from dataclasses import dataclass, field

from cdc.budget import WalBudget
from cdc.lsn import Lsn


@dataclass(slots=True)
class Progress:
    """LSNs and counts since this process connected to the source."""

    received: Lsn
    applied: Lsn
    confirmed: Lsn
    pending: bool = False
    """Changes have come that the target has not committed, or a transaction is on its way."""
    transactions: int = 0
    changes: int = 0
    batches: int = 0
    replays: int = 0
    repairs: int = 0
    """Rows that the target lacked, read from the source."""
    budget: WalBudget = field(default_factory=WalBudget)
    """Of the source's WAL; what is looked at now and then."""
    spooled_bytes: int = 0
    spooled_transactions: int = 0
    """Queued on our own disk; then `applied` is what is durable there."""
    commit_time: int = 0
    """Of the last applied transaction, µs since 2000-01-01."""

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

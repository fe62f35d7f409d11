"""What has come and what became of it, since this process began. Pure.

Plain numbers, which the pipeline adds to once a batch and whoever reports reads: nothing here costs
a row anything. They begin at nought with each process; what outlives it stands in the checkpoint.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class Operations:
    """Changes by what they do to a table."""

    insert: int = 0
    update: int = 0
    delete: int = 0
    truncate: int = 0

    def add(self, other: "Operations") -> None:
        """Add another's numbers to these."""
        self.insert += other.insert
        self.update += other.update
        self.delete += other.delete
        self.truncate += other.truncate

    def each(self) -> Iterator[tuple[str, int]]:
        """Yield the operations by name."""
        yield "insert", self.insert
        yield "update", self.update
        yield "delete", self.delete
        yield "truncate", self.truncate

    @property
    def total(self) -> int:
        """All of them."""
        return self.insert + self.update + self.delete + self.truncate


@dataclass(slots=True)
class Tally:
    """The changes of one table: in a batch, or since the process began."""

    received: Operations = field(default_factory=Operations)
    """As they came."""
    net: Operations = field(default_factory=Operations)
    """What is left of them once each row is written once."""
    filled: int = 0
    """Rows whose unchanged TOAST values were found in the same batch."""


@dataclass(slots=True)
class TableCounts:
    """What became of one table's changes."""

    received: Operations = field(default_factory=Operations)
    applied: Operations = field(default_factory=Operations)
    """Statements that the target has committed, so to say: a row that changed twice counts once."""
    folded: int = 0
    """Changes that came and had not to be written, since a later one of the same batch was."""
    commit_time: int = 0
    """Of the last transaction that was applied and had to do with it, µs since 2000-01-01."""


@dataclass(slots=True)
class Counts:
    """Since this process began."""

    tables: dict[tuple[str, str], TableCounts] = field(default_factory=dict)
    transactions: int = 0
    changes: int = 0
    """Those that came in what was applied."""
    batches: int = 0
    replays: int = 0
    """Batches that the target took one change at a time only."""
    repairs: int = 0
    """Rows that the target lacked, read from the source."""
    fills: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    """Writes that the target did not take, by SQLSTATE class; `connection`: it was not there."""
    retries: int = 0
    """Batches begun anew after a failure."""
    applied_at_s: float = 0.0
    """When the target has taken a batch last, by a clock that never jumps."""
    streams: int = 0
    """Streams that were started: the first one, and each reconnection."""
    quarantined: int = 0
    """Rows that wait in the quarantine, as the session on the target knows them."""
    open_entries: int | None = None
    """Entries of the ledger that ask for something, when the target was last looked at; None: not
    yet."""
    failovers: dict[str, int] = field(default_factory=dict)
    """Entries of the ledger about a failover, by kind, when a session on the target began last."""

    def receive(self, tallies: "Iterable[tuple[tuple[str, str], Tally]]") -> None:
        """Count a batch that was handed over."""
        for name, tally in tallies:
            self._table(name).received.add(tally.received)

    def apply(
        self,
        tallies: "Iterable[tuple[tuple[str, str], Tally]]",
        commit_time: int,
        at_s: float,
        *,
        replayed: bool,
    ) -> None:
        """Count a batch that the target has taken: as a set, or one change after the other."""
        self.applied_at_s = at_s
        self.batches += 1
        self.replays += replayed
        for name, tally in tallies:
            self.changes += tally.received.total
            table = self._table(name)
            table.applied.add(tally.received if replayed else tally.net)
            if not replayed:
                table.folded += tally.received.total - tally.net.total
                self.fills += tally.filled
            table.commit_time = max(table.commit_time, commit_time)

    def fail(self, sqlstate: str | None) -> None:
        """Count a write that failed."""
        self.failures["connection" if sqlstate is None else sqlstate[:2]] += 1

    def _table(self, name: tuple[str, str]) -> TableCounts:
        return self.tables.setdefault(name, TableCounts())

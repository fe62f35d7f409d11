"""Rows that wait: a change of theirs could not be applied, so later ones must not be. Pure.

A row is known by its key. A change that gives it another key hands the waiting on: whatever comes
under either of the two waits as well. Where keys cannot be told apart by their texts, or where the
table itself is what is wrong, the whole table waits.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

from cdc.changes.batch import Batch, TransactionEnd
from cdc.changes.change import Change, each_change, of_message, tables_of
from cdc.changes.fold import Fold, KeyChange, Segment, Step, Truncation, WholeRowChange
from cdc.changes.relations import QualifiedName, Table
from cdc.lsn import Lsn
from cdc.wire.messages import Delete, Insert, Row, Update


@dataclass(slots=True)
class Held:
    """The rows and tables that wait."""

    rows: dict[QualifiedName, set[Row]] = field(default_factory=dict)
    known_by: dict[QualifiedName, set[tuple[str, ...]]] = field(default_factory=dict)
    """The columns that the values of these rows are of."""
    tables: set[QualifiedName] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.rows or self.tables)

    @property
    def size(self) -> int:
        """How many rows wait, by their keys; a table that waits as a whole counts as one more."""
        return sum(map(len, self.rows.values())) + len(self.tables)

    def copy(self) -> "Held":
        """Return a copy that changes on its own."""
        return Held(
            {name: set(rows) for name, rows in self.rows.items()},
            {name: set(columns) for name, columns in self.known_by.items()},
            set(self.tables),
        )

    def hold(
        self, name: QualifiedName, rows: Iterable[Row], known_by: tuple[str, ...] | None
    ) -> None:
        """Let rows wait, which are known by the values of some columns."""
        self.rows.setdefault(name, set()).update(rows)
        if known_by is not None:
            self.known_by.setdefault(name, set()).add(known_by)

    def hold_change(self, change: Change) -> None:
        """Let the row of a change wait, before and after it."""
        self.hold(change.table.name, change.identities, change.known_by)

    def release(self, name: QualifiedName) -> None:
        """Let nothing of a table wait any more."""
        self.rows.pop(name, None)
        self.known_by.pop(name, None)
        self.tables.discard(name)

    def waits(self, change: Change) -> bool:
        """Tell whether a change has to wait."""
        name = change.table.name
        rows = self.rows.get(name)
        if name in self.tables:
            return True
        # Rows that are known by other columns cannot be told from those that wait.
        return rows is not None and (
            self.known_by.get(name, set()) != {change.known_by}
            or not rows.isdisjoint(change.identities)
        )

    def concerns(self, steps: Iterable[Step]) -> bool:
        """Tell whether a change of these steps has to wait, or ends the waiting of a table."""
        if not self:
            return False
        names = self.rows.keys() | self.tables
        touched = (step for step in steps if not names.isdisjoint(tables_of([step])))
        return any(
            not names.isdisjoint(table.name for table in change.tables)
            if isinstance(change, Truncation)
            else self.waits(change)
            for change in each_change(touched)
        )


@dataclass(slots=True, frozen=True)
class Waiting:
    """A change that waits."""

    change: Change
    lsn: Lsn
    """End of its transaction; of one that is still on its way, its commit record."""


def set_aside(batch: Batch, held: Held) -> tuple[Batch, list[Waiting]] | None:
    """Return the batch without the changes that wait, and those; None where a table is truncated.

    `held` then holds the rows of those that wait as well. A truncate ends the waiting, which is for
    who applies one change at a time.
    """
    if any(isinstance(step, Truncation) for step in batch.steps):
        return None
    sieve = _Sieve(batch, held)
    for step in batch.steps:
        sieve.take(step)
    return sieve.rest(), sieve.waiting


class _Sieve:
    def __init__(self, batch: Batch, held: Held) -> None:
        self._batch = batch
        self._held = held
        self._fold = Fold()
        self._ends = iter(batch.transactions)
        self._end = next(self._ends, None)
        self._seen = self._kept = 0
        self._transactions: list[TransactionEnd] = []
        self.waiting: list[Waiting] = []

    def take(self, step: Step) -> None:
        match step:
            case Segment():
                self._fold.cut()
                for message in step.messages:
                    table = step.tables[message.relation_id].table
                    if self._passes(of_message(table, message)):
                        self._refold(table, message)
            case KeyChange(table) | WholeRowChange(table):
                (change,) = each_change([step])
                assert isinstance(change, Change)
                if self._passes(change):
                    self._fold.step(step)
            case Truncation():
                raise AssertionError("not for truncates")

    def _passes(self, change: Change) -> bool:
        while self._end is not None and self._seen == self._end.changes:
            self._close()
        self._seen += 1
        if self._held.waits(change):
            lsn = self._batch.open_lsn if self._end is None else self._end.lsn
            self.waiting.append(Waiting(change, lsn))
            self._held.hold_change(change)
            return False
        self._kept += 1
        return True

    def _close(self) -> None:
        assert self._end is not None
        self._transactions.append(replace(self._end, changes=self._kept))
        self._end = next(self._ends, None)

    def _refold(self, table: Table, message: Insert | Update | Delete) -> None:
        match message:
            case Insert():
                self._fold.insert(table, message)
            case Update():
                self._fold.update(table, message)
            case Delete():
                self._fold.delete(table, message)

    def rest(self) -> Batch:
        while self._end is not None:
            self._close()
        return replace(self._batch, steps=self._fold.steps, transactions=self._transactions)


def by_transaction(
    batch: Batch,
) -> Iterator[tuple[TransactionEnd | None, list[Change | Truncation]]]:
    """Yield each transaction's end with its changes; last, without an end, what goes on."""
    changes = each_change(batch.steps)
    done = 0
    for end in batch.transactions:
        yield end, list(islice(changes, end.changes - done))
        done = end.changes
    rest = list(changes)
    if rest:
        yield None, rest

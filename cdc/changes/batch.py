"""Whole transactions folded into the net change of each row.

The rule that this module lives by: **applying a batch's steps leaves the same rows as applying its
messages one by one.** A step is a `Segment` (net changes in any order of rows), or something that
must stand in its place between segments: a `KeyChange` or a `Truncation`. Whatever the fold cannot
put into one segment starts the next.

Within a segment a row is in one of three places, by its key:

    inserts   its first message was an Insert: the target lacks it, and its whole row is known
    updates   the target has it; UNCHANGED stands for TOAST values that the target keeps
    deletes   gone

A batch keeps its messages too, in source order: where the target refuses the set-based form, they
are replayed one by one. No clock and no limits here: when a batch is taken is `sync.pipeline`'s.
"""

from dataclasses import dataclass, field
from typing import TypeAlias

from cdc.changes.relations import Key, RelationCache, Table
from cdc.errors import ProtocolError
from cdc.lsn import INVALID, Lsn
from cdc.wire.messages import (
    UNCHANGED,
    Begin,
    Commit,
    Delete,
    Insert,
    LogicalMessage,
    Message,
    Origin,
    Relation,
    Row,
    Truncate,
    Type,
    Update,
)


@dataclass(slots=True)
class TableChanges:
    """The net changes of one table's rows in a segment. Each key is in one of the three."""

    table: Table
    inserts: dict[Key, Row] = field(default_factory=dict)
    updates: dict[Key, Row] = field(default_factory=dict)
    deletes: dict[Key, None] = field(default_factory=dict)


@dataclass(slots=True)
class Segment:
    """Net changes of several tables, and the messages that they were folded from."""

    tables: dict[int, TableChanges] = field(default_factory=dict)
    messages: list[Insert | Update | Delete] = field(default_factory=list)


@dataclass(slots=True)
class KeyChange:
    """An Update of a row's key. `update … where old key` keeps the TOAST values that it holds."""

    table: Table
    old: Key
    new: Row


@dataclass(slots=True)
class Truncation:
    """Tables emptied by one statement."""

    tables: tuple[Table, ...]
    restart_identity: bool


Step: TypeAlias = Segment | KeyChange | Truncation


@dataclass(slots=True)
class Batch:
    """Whole transactions in commit order; or, if not `final`, a piece of a large one."""

    steps: list[Step] = field(default_factory=list)
    end_lsn: Lsn = INVALID
    """End of the last whole transaction's Commit: the checkpoint once this is applied."""
    commit_time: int = 0
    """Of that Commit, µs since 2000-01-01."""
    commits: list[tuple[int, Lsn]] = field(default_factory=list)
    """For each whole transaction, how many changes had been gathered at its Commit, and its end."""
    changes: int = 0
    size: int = 0
    """Bytes received for it."""
    final: bool = True
    """False: its last transaction goes on in the next batch, and so must the target's."""


def merge(new: Row, base: Row) -> Row:
    """Return `new` with the values that it leaves unchanged taken from `base`."""
    return tuple(b if n is UNCHANGED else n for n, b in zip(new, base, strict=True))


def resolve(message: Update, table: Table) -> tuple[Key, Key, Row]:
    """Return the row's key before and after an Update, and its new values.

    What the old tuple tells of values that the new one leaves unchanged is filled in: all of them
    under REPLICA IDENTITY FULL, else a key that is itself stored as TOAST.
    """
    new, old = message.new, message.old
    if old is None:
        key = table.key_of(new)
        return key, key, new
    if len(old) != len(new):
        raise ProtocolError(f"{len(new)} old values for {table}", f"{len(old)} values", 0)
    if UNCHANGED in new:
        if message.old_is_full:
            new = merge(new, old)
        else:
            known = tuple(v if n in table.key else UNCHANGED for n, v in enumerate(old))
            new = merge(new, known)
    return table.key_of(old), table.key_of(new), new


class BatchBuilder:
    """Folds messages as they come; `take` hands over what has been gathered."""

    def __init__(self, relations: RelationCache) -> None:
        self._relations = relations
        self._batch = Batch()
        self._segment: Segment | None = None
        self._continues = False
        self.in_transaction = False

    @property
    def changes(self) -> int:
        """Number of changes gathered."""
        return self._batch.changes

    @property
    def has_work(self) -> bool:
        """There is something for the target: changes, or the end of a transaction handed over."""
        return self._batch.changes > 0 or self._continues

    @property
    def size(self) -> int:
        """Bytes gathered."""
        return self._batch.size

    def take(self) -> Batch:
        """Return what was gathered since the last call, and start anew."""
        batch = self._batch
        batch.final = not self.in_transaction
        self._continues = self.in_transaction
        self._batch = Batch()
        self._segment = None
        return batch

    def add(self, message: Message, size: int) -> None:
        """Fold one message of `size` bytes; raise ProtocolError if it cannot stand here."""
        # The frequent ones first: a class pattern costs 40 ns.
        match message:
            case Insert():
                self._insert(message)
            case Update():
                self._update(message)
            case Delete():
                self._delete(message)
            case Begin():
                self._begin()
            case Commit():
                self._commit(message)
            case Relation():
                self._relation(message)
            case Truncate():
                self._truncate(message)
            case Origin() | Type() | LogicalMessage():
                pass  # nothing of these reaches the target
        self._batch.size += size

    def _begin(self) -> None:
        if self.in_transaction:
            raise ProtocolError("a Commit", "Begin inside a transaction", 0)
        self.in_transaction = True

    def _commit(self, message: Commit) -> None:
        if not self.in_transaction:
            raise ProtocolError("a Begin", "Commit outside a transaction", 0)
        self.in_transaction = False
        self._batch.commits.append((self._batch.changes, message.end_lsn))
        self._batch.end_lsn = message.end_lsn
        self._batch.commit_time = message.commit_time

    def _relation(self, message: Relation) -> None:
        # Rows of two shapes must not meet in one segment.
        if self._relations.add(message):
            self._segment = None

    def _insert(self, message: Insert) -> None:
        changes = self._changes(message, message.new)
        key = changes.table.key_of(message.new)
        if key in changes.deletes:
            # Delete and insert again: the target still has the row, so all of it is overwritten.
            del changes.deletes[key]
            changes.updates[key] = message.new
        elif key in changes.updates:
            changes.updates[key] = message.new
        else:
            changes.inserts[key] = message.new

    def _update(self, message: Update) -> None:
        changes = self._changes(message, message.new)
        old_key, key, new = resolve(message, changes.table)
        if old_key != key:
            self._change_key(changes, old_key, key, new)
        elif key in changes.inserts:
            changes.inserts[key] = merge(new, changes.inserts[key]) if UNCHANGED in new else new
        elif key in changes.updates and UNCHANGED in new:
            changes.updates[key] = merge(new, changes.updates[key])
        else:
            changes.deletes.pop(key, None)
            changes.updates[key] = new

    def _change_key(self, changes: TableChanges, old: Key, key: Key, new: Row) -> None:
        row = changes.inserts.get(old)
        if row is not None and key not in changes.updates and key not in changes.inserts:
            # The target has never seen the old key: as good as inserted with the new one.
            del changes.inserts[old]
            changes.deletes[old] = None
            if key in changes.deletes:
                del changes.deletes[key]
                changes.updates[key] = merge(new, row)
            else:
                changes.inserts[key] = merge(new, row)
            return
        # The message is part of the segment's replay too, unless it is taken out of it again.
        segment = self._segment
        assert segment is not None
        segment.messages.pop()
        self._batch.steps.append(KeyChange(changes.table, old, new))
        self._segment = None

    def _delete(self, message: Delete) -> None:
        changes = self._changes(message, message.old)
        key = changes.table.key_of(message.old)
        changes.inserts.pop(key, None)
        changes.updates.pop(key, None)
        # Also where the row was inserted in this very segment: the target may have had it.
        changes.deletes[key] = None

    def _truncate(self, message: Truncate) -> None:
        self._require_transaction()
        tables = tuple(self._table(relation_id) for relation_id in message.relation_ids)
        self._batch.steps.append(Truncation(tables, message.restart_identity))
        self._batch.changes += 1
        self._segment = None

    def _changes(self, message: Insert | Update | Delete, row: Row) -> TableChanges:
        segment = self._segment
        if segment is None or not self.in_transaction:
            self._require_transaction()
            segment = self._segment = Segment()
            self._batch.steps.append(segment)
        changes = segment.tables.get(message.relation_id)
        if changes is None:
            changes = TableChanges(self._table(message.relation_id))
            segment.tables[message.relation_id] = changes
        if len(row) != len(changes.table.columns):
            expected = f"{len(changes.table.columns)} values for {changes.table}"
            raise ProtocolError(expected, f"{len(row)} values", 0)
        segment.messages.append(message)
        self._batch.changes += 1
        return changes

    def _require_transaction(self) -> None:
        if not self.in_transaction:
            raise ProtocolError("a Begin", "a change outside a transaction", 0)

    def _table(self, relation_id: int) -> Table:
        try:
            return self._relations[relation_id]
        except KeyError:
            raise ProtocolError("a Relation first", f"relation id {relation_id}", 0) from None

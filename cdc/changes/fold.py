"""Changes folded into the net change of each row: pure.

The rule that this module lives by: **applying the steps leaves the same rows as applying the
changes one by one.** A step is a `Segment` (net changes, in any order of rows), or something that
has to stand in its place between segments: a `KeyChange`, a `WholeRowChange`, a `Truncation`.
Whatever cannot be put into one segment starts the next.

Within a segment a row is in one of three places, by its key:

    inserts   its first change was an Insert: the target lacks it, and its whole row is known
    updates   the target has it; UNCHANGED stands for TOAST values that the target keeps
    deletes   gone

A segment keeps its messages too, in source order: where the target refuses the set-based form, they
are replayed one by one. Rows without a key are told apart by all their values, so that nothing of
them is folded: their inserts share a segment, anything else is a step of its own.
"""

from dataclasses import dataclass, field
from typing import TypeAlias

from cdc.changes.relations import Key, Table, not_unique
from cdc.errors import ChangeRefused, ProtocolError
from cdc.wire.messages import UNCHANGED, Delete, Insert, Row, Update, is_whole


@dataclass(slots=True)
class TableChanges:
    """The net changes of one table's rows in a segment. Each key is in one of the three."""

    table: Table
    inserts: dict[Key, Row] = field(default_factory=dict)
    updates: dict[Key, Row] = field(default_factory=dict)
    deletes: dict[Key, None] = field(default_factory=dict)
    inserted: int = 0
    """Inserts as they came, and so on: for who counts (`changes.tally`)."""
    updated: int = 0
    deleted: int = 0
    filled: int = 0
    """Rows whose unchanged TOAST values an earlier change told."""

    def has(self, key: Key) -> bool:
        """Tell whether a row of this key was written, and is there."""
        return key in self.inserts or key in self.updates

    def fill(self, new: Row, known: Row) -> Row:
        """Return `new` with the values that it leaves unchanged, as far as they are known."""
        if is_whole(new):
            return new
        self.filled += 1
        return merge(new, known)

    def require(self, key: Key, old: Row) -> None:
        """Raise ChangeRefused where the row of this key is not what the source says it was."""
        row = self.inserts.get(key) or self.updates.get(key)
        if row is not None and any(
            was is not known and was != known and was is not None and known is not UNCHANGED
            for was, known in zip(old, row, strict=True)
        ):
            raise not_unique(self.table)


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
class WholeRowChange:
    """An Update (or, without `new`, a Delete) of one row that has no key but all its values."""

    table: Table
    old: Row
    new: Row | None


@dataclass(slots=True)
class Truncation:
    """Tables emptied by one statement."""

    tables: tuple[Table, ...]
    restart_identity: bool

    @property
    def forbidden(self) -> bool:
        """The operator wants to be asked first."""
        return any(table.policy.truncate == "halt" for table in self.tables)


Step: TypeAlias = Segment | KeyChange | WholeRowChange | Truncation


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
    if not is_whole(new):
        # NULL is no value of TOAST: a partition sends less than its root's REPLICA IDENTITY FULL.
        full = message.old_is_full
        known = (v if full or n in table.key else UNCHANGED for n, v in enumerate(old))
        new = merge(new, tuple(UNCHANGED if v is None else v for v in known))
    return key_before(table, old), table.key_of(new), new


def key_before(table: Table, old: Row) -> Key:
    """Return the key in an old tuple; raise ChangeRefused where it is not in there."""
    key = table.key_of(old)
    if key is None or (isinstance(key, tuple) and None in key):
        raise ChangeRefused(
            f"{table}: the source sends an old row without its key, so that it cannot be found"
            f" ({', '.join(table.key_columns)})",
            hint="a partition has another replica identity than the table that it is published as:"
            " `cdc check` names it; then make a new copy, since rows may differ by now",
        )
    return key


class Fold:
    """Folds changes as they come."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._segment: Segment | None = None

    def cut(self) -> None:
        """Let what comes next start a segment: rows of two shapes must not meet in one."""
        self._segment = None

    def truncate(self, tables: tuple[Table, ...], *, restart_identity: bool) -> None:
        """Empty tables."""
        self.step(Truncation(tables, restart_identity))

    def insert(self, table: Table, message: Insert) -> None:
        """Add a row."""
        if not is_whole(message.new):
            self._insert_in_part(table, message)
            return
        changes = self._changes(table, message)
        changes.inserted += 1
        # Rows without a key are all different ones.
        key = table.key_of(message.new) if table.key else b"%d" % len(changes.inserts)
        if key in changes.deletes:
            # Delete and insert again: the target still has the row, so all of it is overwritten.
            del changes.deletes[key]
            changes.updates[key] = message.new
        elif table.key_is_assumed and changes.has(key):
            raise not_unique(table)
        elif key in changes.updates or (table.retains and table.key):
            # Also where a row that the source has deleted may be on the target still.
            changes.updates[key] = message.new
        else:
            changes.inserts[key] = message.new

    def _insert_in_part(self, table: Table, message: Insert) -> None:
        """Add a row that an UPDATE let through a row filter: TOAST that it left alone is not sent.

        As good as an Update of a row that the target lacks. In a segment of its own: the delete of
        a row that had the key before must be done by then.
        """
        if table.retains:
            raise ChangeRefused(
                f"{table}: a row that came through the publication's row filter lacks a value, and"
                " the target may have kept an older row of its key",
                hint="make the table's replica identity FULL, or replicate its deletes",
            )
        self.cut()
        self.update(table, Update(message.relation_id, None, False, message.new))

    def update(self, table: Table, message: Update) -> None:
        """Change a row."""
        old_key, key, new = resolve(message, table)
        if not table.key:
            self.step(WholeRowChange(table, _whole(message, table), new))
            return
        changes = self._changes(table, message)
        changes.updated += 1
        if table.key_is_assumed and message.old is not None:
            changes.require(old_key, message.old)
        if old_key != key:
            self._change_key(changes, old_key, key, new)
        elif key in changes.inserts:
            changes.inserts[key] = changes.fill(new, changes.inserts[key])
        elif key in changes.updates:
            changes.updates[key] = changes.fill(new, changes.updates[key])
        else:
            changes.deletes.pop(key, None)
            changes.updates[key] = new

    def delete(self, table: Table, message: Delete) -> None:
        """Take a row away."""
        if not table.key:
            self.step(WholeRowChange(table, _whole(message, table), None))
            return
        changes = self._changes(table, message)
        changes.deleted += 1
        key = key_before(table, message.old)
        if table.key_is_assumed:
            changes.require(key, message.old)
            if changes.inserts.pop(key, None) is not None:
                return  # a row of the target that has this key would be another one
        changes.inserts.pop(key, None)
        changes.updates.pop(key, None)
        # Also where the row was inserted in this very segment: the target may have had it.
        changes.deletes[key] = None

    def _change_key(self, changes: TableChanges, old: Key, key: Key, new: Row) -> None:
        row = changes.inserts.get(old)
        if row is not None and key not in changes.updates and key not in changes.inserts:
            # The target has never seen the old key: as good as inserted with the new one.
            del changes.inserts[old]
            if not changes.table.key_is_assumed:
                changes.deletes[old] = None
            if key in changes.deletes:
                del changes.deletes[key]
                changes.updates[key] = changes.fill(new, row)
            else:
                changes.inserts[key] = changes.fill(new, row)
            return
        # A step of its own, so no longer a part of what the segment replays.
        assert self._segment is not None
        self._segment.messages.pop()
        self.step(KeyChange(changes.table, old, new))

    def step(self, step: Step) -> None:
        """Put a step in its place, behind what has come so far."""
        self.steps.append(step)
        self._segment = None

    def _changes(self, table: Table, message: Insert | Update | Delete) -> TableChanges:
        segment = self._segment
        if segment is None:
            segment = self._segment = Segment()
            self.steps.append(segment)
        changes = segment.tables.get(message.relation_id)
        if changes is None:
            changes = segment.tables[message.relation_id] = TableChanges(table)
        segment.messages.append(message)
        return changes


def _whole(message: Update | Delete, table: Table) -> Row:
    if message.old is None or not message.old_is_full:
        raise ProtocolError(f"the whole old row of {table}, which has no key", "less than that", 0)
    return message.old

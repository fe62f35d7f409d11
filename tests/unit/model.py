"""A source and a target of three tables, in memory: what the fold is measured against.

`ModelSource` runs operations as PostgreSQL would, and returns the messages that pgoutput would send
for them: never one that a server could not send. `ModelTarget` keeps rows and is as strict as the
real one: a patch finds its row, an insert finds its key free.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Final, Literal, TypeAlias

from cdc.changes.relations import QualifiedName, Table
from cdc.lsn import Lsn
from cdc.wire.messages import (
    UNCHANGED,
    Begin,
    Commit,
    Delete,
    Insert,
    Message,
    Relation,
    Row,
    Truncate,
    Update,
    Value,
)
from tests.unit.shapes import relation

TOASTED: Final = "body"
"""The column whose value is left out of an Update that leaves it alone."""

NamedRow: TypeAlias = dict[str, Value]
State: TypeAlias = dict[QualifiedName, dict[Row, NamedRow]]

RELATIONS = (
    relation(11, "single", ["id", "note", TOASTED]),
    relation(12, "composite", ["a", TOASTED, "b", "note"], key=["a", "b"]),
    relation(13, "full", ["note", TOASTED, "id"], key=["id"], replica_identity="f"),
)
KEYS: dict[QualifiedName, tuple[str, ...]] = {
    ("credit", "single"): ("id",),
    ("credit", "composite"): ("a", "b"),
    ("credit", "full"): ("id",),
}
ROWS = 3
"""Rows that a table may have: so few that operations meet on them."""
_TEMPORARY = 9

Kind: TypeAlias = Literal[
    "insert", "update", "delete", "rekey", "swap", "reinsert", "truncate", "reshape", "announce",
    "commit", "take",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Operation:
    """Something that happens on the source, or between it and the builder (`take`)."""

    kind: Kind
    table: int
    row: int
    other: int
    keep: bool
    """Leave the toasted column alone."""
    null: bool
    """If not, set it to NULL."""


@dataclass(slots=True)
class _SourceTable:
    relation: Relation
    announced: Relation | None = None
    rows: dict[int, Row] = field(default_factory=dict)

    @property
    def name(self) -> QualifiedName:
        return self.relation.schema, self.relation.name

    def key_values(self, row: int) -> Row:
        """The key of a row: so that keys of two columns have either of them in common."""
        if len(KEYS[self.name]) == 1:
            return (b"%d" % row,)
        return b"%d" % (row // 2), b"%d" % (row % 2)

    def make(self, row: int, number: int, body: Value) -> Row:
        """A row with these values, all other values new."""
        known: NamedRow = dict(zip(KEYS[self.name], self.key_values(row), strict=True))
        known[TOASTED] = body
        return tuple(
            known[column.name]
            if column.name in known
            else b"%s %d" % (column.name.encode(), number)
            for column in self.relation.columns
        )

    def old_tuple(self, row: Row) -> tuple[Row, bool]:
        """The old tuple of a Delete, or of an Update that changes the key, and if it is full."""
        if self.relation.replica_identity == "f":
            return row, True
        columns = zip(self.relation.columns, row, strict=True)
        return tuple(value if column.is_key else None for column, value in columns), False


class ModelSource:
    """Three tables, and the messages of what happens to them."""

    def __init__(self, rows: list[set[int]]) -> None:
        self._tables = [_SourceTable(relation) for relation in RELATIONS]
        self._numbers = count(1)
        self._lsns = map(Lsn, count(100))
        self.in_transaction = False
        for table, present in zip(self._tables, rows, strict=True):
            table.rows = {row: self._make(table, row, null=row == 0) for row in sorted(present)}

    @property
    def state(self) -> State:
        """All rows, by table and key, as the transaction that is open has left them."""
        return {
            table.name: {
                table.key_values(key): {
                    column.name: value
                    for column, value in zip(table.relation.columns, row, strict=True)
                }
                for key, row in table.rows.items()
            }
            for table in self._tables
        }

    def run(self, operation: Operation) -> Iterator[Message]:
        """Do what the operation says, as far as the rows allow it; yield what is sent."""
        table = self._tables[operation.table]
        match operation.kind:
            case "truncate":
                chosen = {operation.table, operation.row % len(self._tables)}
                yield from self._truncate([self._tables[n] for n in sorted(chosen)])
            case "reshape":
                self._reshape(table)
            case "announce":
                table.announced = None
            case "commit":
                yield from self.commit()
            case "take":
                pass
            case _:
                yield from self._change(table, operation)

    def _change(self, table: _SourceTable, operation: Operation) -> Iterator[Message]:
        row, other, keep, null = operation.row, operation.other, operation.keep, operation.null
        there, other_there = row in table.rows, other in table.rows
        match operation.kind:
            case "insert" if not there:
                yield from self._insert(table, row, null=null)
            case "update" if there:
                yield from self._update(table, row, row, keep=keep, null=null)
            case "delete" if there:
                yield from self._delete(table, row)
            case "reinsert" if there:
                yield from self._delete(table, row)
                yield from self._insert(table, row, null=null)
            case "rekey" if there and not other_there:
                yield from self._update(table, row, other, keep=keep, null=null)
            case "swap" if there and other_there and row != other:
                yield from self._update(table, row, _TEMPORARY, keep=keep, null=null)
                yield from self._update(table, other, row, keep=keep, null=null)
                yield from self._update(table, _TEMPORARY, other, keep=True, null=False)

    def commit(self) -> Iterator[Message]:
        """End the transaction that is open, if one is."""
        if self.in_transaction:
            self.in_transaction = False
            lsn = next(self._lsns)
            yield Commit(lsn, next(self._lsns), 0)

    def _make(self, table: _SourceTable, row: int, *, null: bool) -> Row:
        number = next(self._numbers)
        return table.make(row, number, None if null else b"body %d" % number)

    def _announce(self, *tables: _SourceTable) -> Iterator[Message]:
        if not self.in_transaction:
            self.in_transaction = True
            yield Begin(next(self._lsns), 0, 1)
        for table in tables:
            if table.announced != table.relation:
                table.announced = table.relation
                yield table.relation

    def _insert(self, table: _SourceTable, row: int, *, null: bool) -> Iterator[Message]:
        yield from self._announce(table)
        table.rows[row] = self._make(table, row, null=null)
        yield Insert(table.relation.relation_id, table.rows[row])

    def _update(
        self, table: _SourceTable, row: int, to: int, *, keep: bool, null: bool
    ) -> Iterator[Message]:
        yield from self._announce(table)
        old = table.rows.pop(row)
        toasted = [column.name for column in table.relation.columns].index(TOASTED)
        new = self._make(table, to, null=null)
        if keep:
            new = (*new[:toasted], old[toasted], *new[toasted + 1 :])
        table.rows[to] = new
        sent = new
        if keep and old[toasted] is not None:  # NULL is never stored as TOAST
            sent = (*new[:toasted], UNCHANGED, *new[toasted + 1 :])
        before, is_full = table.old_tuple(old)
        if row == to and not is_full:
            yield Update(table.relation.relation_id, None, False, sent)
        else:
            yield Update(table.relation.relation_id, before, is_full, sent)

    def _delete(self, table: _SourceTable, row: int) -> Iterator[Message]:
        yield from self._announce(table)
        old, is_full = table.old_tuple(table.rows.pop(row))
        yield Delete(table.relation.relation_id, old, is_full)

    def _truncate(self, tables: list[_SourceTable]) -> Iterator[Message]:
        yield from self._announce(*tables)
        for table in tables:
            table.rows.clear()
        yield Truncate(tuple(table.relation.relation_id for table in tables), False, False)

    def _reshape(self, table: _SourceTable) -> None:
        """Add a column; its value in the rows that are there is NULL. The server says so later."""
        old = table.relation
        names = [column.name for column in old.columns]
        table.relation = relation(
            old.relation_id,
            old.name,
            [*names, f"more_{len(names)}"],
            key=KEYS[table.name],
            replica_identity=old.replica_identity,
        )
        table.rows = {key: (*row, None) for key, row in table.rows.items()}


class ModelTarget:
    """Rows by table and key; a column that nobody has set is NULL."""

    def __init__(self, state: State) -> None:
        self.rows = {
            name: {key: dict(row) for key, row in rows.items()} for name, rows in state.items()
        }

    def insert(self, table: Table, row: Row) -> None:
        """Add a row; COPY would stop at a key that is there."""
        key = table.key_values(table.key_of(row))
        assert key not in self.rows[table.name], "an inserted key is there already"
        self.write(table, row)

    def write(self, table: Table, row: Row) -> None:
        """Set a whole row, whether or not it is there."""
        assert UNCHANGED not in row, "a row that is not whole"
        key = table.key_values(table.key_of(row))
        found = self.rows[table.name].setdefault(key, {})
        found.update(zip(table.columns, row, strict=True))

    def patch(self, table: Table, key: Row, row: Row) -> None:
        """Set the values that `row` has on the row that has to be there, a new key too."""
        rows = self.rows[table.name]
        assert key in rows, "a patched row is not there"
        found = rows.pop(key)
        pairs = zip(table.columns, row, strict=True)
        found.update({name: value for name, value in pairs if value is not UNCHANGED})
        new_key = tuple(found[name] for name in table.key_columns)
        assert new_key not in rows, "the new key is taken"
        rows[new_key] = found

    def delete(self, table: Table, key: Row) -> None:
        """Delete a row if it is there."""
        self.rows[table.name].pop(key, None)

    def truncate(self, table: Table) -> None:
        """Delete all rows."""
        self.rows[table.name].clear()

    def holds(self, state: State) -> bool:
        """Tell whether the rows are those of the source, columns that it has alone."""
        return self.rows.keys() == state.keys() and all(
            self.rows[name].keys() == rows.keys()
            and all(
                value == self.rows[name][key].get(column)
                for key, row in rows.items()
                for column, value in row.items()
            )
            for name, rows in state.items()
        )

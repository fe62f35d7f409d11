"""A source in memory: what the fold is measured against, when no server is at hand.

It runs operations as PostgreSQL would, and yields the messages that pgoutput would send for them:
never one that a server could not send. Like pgoutput it sends a transaction when it commits, and of
what was rolled back nothing. It knows no constraint but the primary key.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import TypeAlias

from cdc.changes.relations import QualifiedName
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
from tests.operations import MANY, TABLES, TEMPORARY, TOASTED, Operation, Shape
from tests.unit.shapes import relation

NamedRow: TypeAlias = dict[str, Value]
State: TypeAlias = dict[QualifiedName, list[NamedRow]]

KEYS: dict[QualifiedName, tuple[str, ...]] = {
    ("credit", shape.name): shape.key for shape in TABLES if shape.key
}


@dataclass(slots=True)
class Cut:
    """A place in the stream where a batch ends, and the rows that the source has there."""

    state: State
    in_transaction: bool


@dataclass(slots=True)
class _Sent:
    message: Message
    relations: tuple[Relation, ...]
    """Of the tables that it changes, as they were then."""


@dataclass(slots=True)
class _Table:
    shape: Shape
    relation: Relation
    rows: dict[int, NamedRow] = field(default_factory=dict)

    @property
    def name(self) -> QualifiedName:
        return self.relation.schema, self.relation.name

    def find(self, row: int) -> int | None:
        """Where a row stands: one of those that are equal, where there is no key."""
        if self.shape.key:
            return row if row in self.rows else None
        return next((n for n, one in self.rows.items() if one["id"] == b"%d" % row), None)

    def key(self, row: int, *, long: bool) -> NamedRow:
        """The key of a row: keys of two columns have either of them in common."""
        if self.shape.name == "composite":
            return {"a": b"%d" % (row // 2), "b": b"%d" % (row % 2)}
        if self.shape.name == "number":
            return {"id": b"%d.00" % row if long else b"%d.0" % row}
        return {"id": b"%d" % row}

    def sent(self, row: NamedRow, *, keep: bool) -> Row:
        """The row as a new tuple: NULL is never stored as TOAST."""
        return tuple(
            UNCHANGED if keep and name == TOASTED and row[name] is not None else row[name]
            for name in (column.name for column in self.relation.columns)
        )

    def old_tuple(self, row: NamedRow) -> tuple[Row, bool]:
        """The old tuple of a Delete, or of an Update that changes the key, and if it is full."""
        is_full = self.relation.replica_identity == "f"
        columns = self.relation.columns
        return tuple(row[c.name] if c.is_key or is_full else None for c in columns), is_full


_Saved: TypeAlias = tuple[int, list[tuple[Relation, dict[int, NamedRow]]]]


class ModelSource:
    """Tables, and the messages of what happens to them."""

    def __init__(self) -> None:
        self._tables = [
            _Table(shape, relation(n, shape.name, shape.columns, key=shape.key,
                                   replica_identity="f" if shape.is_full else "d"))
            for n, shape in enumerate(TABLES, 11)
        ]  # fmt: skip
        self._numbers = count(1)
        self._lsns = map(Lsn, count(100))
        self._announced: dict[int, Relation] = {}
        self._pending: list[_Sent | Cut | int] = []
        """What a commit will send; a number: the server forgets what it announced."""
        self._saved: list[_Saved] = []
        """The transaction's start and its savepoints; empty outside of a transaction."""

    @property
    def state(self) -> State:
        """All rows, by table, as the transaction that is open has left them."""
        return {
            table.name: [dict(row) for _, row in sorted(table.rows.items())]
            for table in self._tables
        }

    def run(self, operation: Operation) -> Iterator[Message | Cut]:
        """Do what the operation says, as far as the rows allow it; yield what is sent."""
        match operation.kind:
            case "commit":
                yield from self.commit()
                return
            case "rollback":
                self._rollback(whole=operation.null)
                return
            case "take" if not self._saved:
                yield Cut(self.state, in_transaction=False)
                return
        if not self._saved or operation.kind == "savepoint":
            tables = [(t.relation, {n: {**r} for n, r in t.rows.items()}) for t in self._tables]
            self._saved.append((len(self._pending), tables))
        table = self._tables[operation.table]
        match operation.kind:
            case "truncate":
                chosen = {operation.table, operation.row % len(self._tables)}
                self._truncate([self._tables[n] for n in sorted(chosen)])
            case "reshape":
                self._reshape(table)
            case "announce":
                self._pending.append(table.relation.relation_id)
            case "take":
                self._pending.append(Cut(self.state, in_transaction=True))
            case _:
                self._change(table, operation)

    def commit(self) -> Iterator[Message | Cut]:
        """End the transaction that is open, if one is, and send it."""
        pending, self._pending, self._saved = self._pending, [], []
        if not any(isinstance(entry, _Sent) for entry in pending):
            return  # the server says nothing of a transaction that changed nothing
        yield Begin(next(self._lsns), 0, 1)
        for entry in pending:
            match entry:
                case int():
                    self._announced.pop(entry, None)
                case Cut():
                    yield entry
                case _Sent(message, relations):
                    for one in relations:
                        if self._announced.get(one.relation_id) != one:
                            self._announced[one.relation_id] = one
                            yield one
                    yield message
        lsn = next(self._lsns)
        yield Commit(lsn, next(self._lsns), 0)

    def _rollback(self, *, whole: bool) -> None:
        """Go back to the last savepoint, else to the start of the transaction."""
        if len(self._saved) > 1 or (whole and self._saved):
            length, tables = self._saved.pop()
            del self._pending[length:]
            for table, (shape, rows) in zip(self._tables, tables, strict=True):
                table.relation, table.rows = shape, rows

    def _change(self, table: _Table, operation: Operation) -> None:
        row, keep = operation.row, operation.keep
        at = table.find(row)
        match operation.kind:
            case "insert" if at is None or not table.shape.key:
                self._insert(table, row, operation)
            case "update" if at is not None:
                self._update(table, at, at, operation, keep=keep)
            case "delete" if at is not None:
                self._delete(table, at)
            case "reinsert" if at is not None:
                self._delete(table, at)
                self._insert(table, row, operation)
            case "rekey" | "swap" | "trade" if at is not None:
                self._exchange(table, at, operation)
            case _:
                self._change_many(table, operation)

    def _exchange(self, table: _Table, at: int, operation: Operation) -> None:
        row, other, keep = operation.row, operation.other, operation.keep
        at_other = table.find(other)
        match operation.kind:
            case "rekey" if table.shape.key and at_other in {None, row}:
                self._update(table, at, other, operation, keep=keep)
            case "swap" if table.shape.key and at_other not in {None, at}:
                self._update(table, row, TEMPORARY, operation, keep=keep)
                self._update(table, other, row, operation, keep=keep)
                self._update(table, TEMPORARY, other, operation, keep=True)
            case "trade" if at_other is not None and at != at_other:
                self._trade(table, at, at_other)

    def _change_many(self, table: _Table, operation: Operation) -> None:
        match operation.kind:
            case "insert_many":
                for n in MANY:
                    if table.find(n) is None:
                        self._insert(table, n, operation)
            case "update_many":
                for n in [n for n in table.rows if n >= MANY.start]:
                    self._update(table, n, n, operation, keep=operation.keep)
            case "delete_many":
                for n in [n for n in table.rows if operation.keep or n >= MANY.start]:
                    self._delete(table, n)

    def _send(self, message: Message, *tables: _Table) -> None:
        self._pending.append(_Sent(message, tuple(table.relation for table in tables)))

    def _values(self, table: _Table, row: int, operation: Operation) -> NamedRow:
        """Values for an insert or update; without a key they repeat, so that rows are equal."""
        number = next(self._numbers) if table.shape.key else operation.other
        return {
            "note": b"note %d" % number,
            TOASTED: None if operation.null or row % 2 else b"body %d" % number,
        }

    def _insert(self, table: _Table, row: int, operation: Operation) -> None:
        new: NamedRow = {column.name: None for column in table.relation.columns}
        new |= table.key(row, long=operation.null) | self._values(table, row, operation)
        if "link" in new:
            new["link"] = b"%d" % operation.other if operation.keep else None
        if "unit" in new:
            new["unit"] = b"%d" % row
        table.rows[row if table.shape.key else 1000 + next(self._numbers)] = new
        self._send(Insert(table.relation.relation_id, table.sent(new, keep=False)), table)

    def _update(self, table: _Table, at: int, to: int, operation: Operation, *, keep: bool) -> None:
        old = table.rows.pop(at)
        values = self._values(table, to, operation)
        if keep:
            del values[TOASTED]
        if at != to or operation.kind == "rekey":
            values |= table.key(to, long=operation.null)
        self._write(table, old, to, values, keep=keep)

    def _trade(self, table: _Table, at: int, other: int) -> None:
        """Swap the unique values of two rows, by way of NULL."""
        if "unit" in table.shape.columns:
            one, two = table.rows[at]["unit"], table.rows[other]["unit"]
            for row, unit in ((at, None), (other, one), (at, two)):
                self._write(table, table.rows[row], row, {"unit": unit}, keep=True)

    def _write(
        self, table: _Table, old: NamedRow, to: int, values: NamedRow, *, keep: bool
    ) -> None:
        new = table.rows[to] = old | values
        before, is_full = table.old_tuple(old)
        changed = any(old[name] != new[name] for name in table.shape.key)
        self._send(
            Update(
                table.relation.relation_id,
                before if changed or is_full else None,
                is_full,
                table.sent(new, keep=keep),
            ),
            table,
        )

    def _delete(self, table: _Table, at: int) -> None:
        old, is_full = table.old_tuple(table.rows.pop(at))
        self._send(Delete(table.relation.relation_id, old, is_full), table)

    def _truncate(self, tables: list[_Table]) -> None:
        for table in tables:
            table.rows.clear()
        ids = tuple(table.relation.relation_id for table in tables)
        self._send(Truncate(ids, cascade=False, restart_identity=False), *tables)

    def _reshape(self, table: _Table) -> None:
        """Add a column; its value in the rows that are there is NULL. The server says so later."""
        old = table.relation
        names = [column.name for column in old.columns]
        more = f"more_{len(names)}"
        table.relation = relation(
            old.relation_id,
            old.name,
            [*names, more],
            key=table.shape.key,
            replica_identity=old.replica_identity,
        )
        for row in table.rows.values():
            row[more] = None

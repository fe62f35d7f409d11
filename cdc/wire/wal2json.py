"""Messages of wal2json, format version 2, as pgoutput would have sent them.

A `Decoder` makes of each line no message, one or several. It numbers the relations and sends their
shape itself: a Relation comes before a table's first change, and when its shape is another one.
What a line leaves out is `layout`'s; the text of a line is `jsonline`'s.

A line can only be understood with a catalog that is at least as new as its transaction: a shape
that was true a second ago may hide that a column is no longer generated, or that rows have another
key. So a table's shape counts for transactions that were committed before it was read (`learn`),
and a line of a later one raises ShapeUnknown, after which the decoder is as it was before.

Total: any bytes give messages, ProtocolError, or ShapeUnknown. What differs from pgoutput, because
the lines do not tell:

- TRUNCATE comes as a line a table, without CASCADE and RESTART IDENTITY. Lines in a row become one
  Truncate, which is sent with what comes next; RESTART IDENTITY is not carried.
- A Begin has no xid, there is no Origin, and a logical message ends at its first NUL.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from cdc.errors import ProtocolError
from cdc.lsn import INVALID, Lsn
from cdc.wire.jsonline import Field, Line, lsn_of, parse, text, time_of
from cdc.wire.layout import Layout, Shape, lay_out_delete, lay_out_insert, lay_out_update
from cdc.wire.messages import (
    UNCHANGED,
    Begin,
    Commit,
    Delete,
    Insert,
    LogicalMessage,
    Message,
    Relation,
    Row,
    Truncate,
    Update,
    Value,
)

_Signature: TypeAlias = tuple[str, ...]
"""Of a line: its action, names and types of its columns, names of its keys."""


class ShapeUnknown(Exception):
    """A line cannot be understood without the catalog of now. Never leaves the pipeline."""

    def __init__(self, schema: str, table: str) -> None:
        super().__init__(f"the shape of {schema}.{table} is not known")
        self.schema = schema
        self.table = table
        self.payload = b""
        """The line, to be decoded again."""


@dataclass(slots=True)
class _Table:
    """What is known of a table, and how the lines that it had so far are laid out."""

    relation_id: int
    shape: Shape = field(default_factory=Shape)
    learnt_at: Lsn = INVALID
    sent: Relation | None = None
    layouts: dict[_Signature, Layout] = field(default_factory=dict)

    def send(self, relation: Relation) -> list[Message]:
        """Return the Relation if it is not the one that was sent last."""
        if relation is self.sent or relation == self.sent:
            return []
        self.sent = relation
        return [relation]


class Decoder:
    """Decodes the lines of one stream, in order."""

    def __init__(self) -> None:
        self._tables: dict[tuple[str, str], _Table] = {}
        self._truncated: list[int] = []
        self._final_lsn = INVALID
        self._decoders: dict[str, Callable[[Line], list[Message]]] = {
            "I": self._insert,
            "U": self._update,
            "D": self._delete,
            "B": self._begin,
            "C": self._commit,
            "T": self._truncate,
            "M": self._message,
        }

    def learn(self, schema: str, name: str, shape: Shape | None, lsn: Lsn) -> None:
        """Take in a table as the catalog has it, or None where it is gone.

        It holds for transactions that were committed before `lsn`: the end of the source's WAL just
        before the catalog was read.
        """
        table = self._table(schema, name)
        table.learnt_at = lsn
        # Of a table that is gone, what was known last is the most that can be known.
        if shape is not None and table.shape != shape:
            table.shape = shape
            table.layouts.clear()

    def decode(self, payload: bytes) -> Sequence[Message]:
        """Return the messages of a line."""
        line = parse(payload)
        try:
            decode_line = self._decoders[line.action]
        except KeyError:
            raise ProtocolError("an action of wal2json", "another", 0) from None
        try:
            messages = decode_line(line)
        except ShapeUnknown as unknown:
            unknown.payload = payload
            raise
        if self._truncated and line.action != "T":
            truncate = Truncate(tuple(self._truncated), cascade=False, restart_identity=False)
            self._truncated.clear()
            return [truncate, *messages]
        return messages

    def _table(self, schema: str, name: str) -> _Table:
        table = self._tables.get((schema, name))
        if table is None:
            table = self._tables[schema, name] = _Table(len(self._tables) + 1)
        return table

    def _known_table(self, line: Line) -> _Table:
        table = self._table(line.schema, line.table)
        if table.learnt_at <= self._final_lsn:
            raise ShapeUnknown(line.schema, line.table)
        return table

    def _insert(self, line: Line) -> list[Message]:
        fields = _required(line.columns, "columns")
        table = self._known_table(line)
        signature = ("I", *_names_and_types(fields), *[key.name for key in line.pk or ()])
        layout = table.layouts.get(signature)
        if layout is None:
            layout = lay_out_insert(line, table.relation_id, table.shape)
            table.layouts[signature] = layout
        insert = Insert(table.relation_id, _new_row(fields, layout))
        return [*table.send(layout.relation), insert]

    def _update(self, line: Line) -> list[Message]:
        fields, identity = _required(line.columns, "columns"), _required(line.identity, "identity")
        table = self._known_table(line)
        signature = ("U", *_names_and_types(fields), "", *[field.name for field in identity])
        layout = table.layouts.get(signature)
        if layout is None:
            layout = lay_out_update(line, table.relation_id, table.shape)
            table.layouts[signature] = layout
        new = _new_row(fields, layout)
        old = _old_row(identity, layout)
        is_needed = layout.is_full or not _is_same(old, new, layout)
        update = Update(table.relation_id, old if is_needed else None, layout.is_full, new)
        return [*table.send(layout.relation), update]

    def _delete(self, line: Line) -> list[Message]:
        identity = _required(line.identity, "identity")
        table = self._known_table(line)
        signature = ("D", *_names_and_types(identity))
        layout = table.layouts.get(signature)
        if layout is None or layout.relation is not table.sent:
            layout = lay_out_delete(line, table.relation_id, table.shape, table.sent)
            table.layouts[signature] = layout
        delete = Delete(table.relation_id, _old_row(identity, layout), layout.is_full)
        return [*table.send(layout.relation), delete]

    def _truncate(self, line: Line) -> list[Message]:
        table = self._known_table(line)
        if table.shape.partitioned:
            return []  # each of its partitions has a line of its own
        if table.relation_id not in self._truncated:
            self._truncated.append(table.relation_id)
        if table.sent is not None:
            return []
        return table.send(Relation(table.relation_id, line.schema, line.table, "d", ()))

    def _begin(self, line: Line) -> list[Message]:
        begin = Begin(lsn_of(line.lsn), time_of(line.timestamp), 0)
        self._final_lsn = begin.final_lsn
        return [begin]

    def _commit(self, line: Line) -> list[Message]:
        return [Commit(lsn_of(line.lsn), lsn_of(line.nextlsn), time_of(line.timestamp))]

    def _message(self, line: Line) -> list[Message]:
        lsn, content = lsn_of(line.lsn), line.content.encode()
        return [LogicalMessage(line.transactional, lsn, line.prefix, content)]


def _required(fields: list[Field] | None, what: str) -> list[Field]:
    if fields is None:
        raise ProtocolError(what, "none", 0)
    return fields


def _names_and_types(fields: list[Field]) -> list[str]:
    return [part for field in fields for part in (field.name, field.type)]


def _new_row(fields: list[Field], layout: Layout) -> Row:
    values = [text(field) for field in fields]
    return tuple([UNCHANGED if place is None else values[place] for place in layout.places])


def _old_row(identity: list[Field], layout: Layout) -> Row:
    return tuple([None if place is None else text(identity[place]) for place in layout.old_places])


def _is_same(old: Row, new: Row, layout: Layout) -> bool:
    """Tell whether a row's identity is what it was before."""
    pairs: zip[tuple[int | None, Value, Value]] = zip(layout.old_places, old, new, strict=True)
    return all(place is None or before == after for place, before, after in pairs)

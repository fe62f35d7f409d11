"""What a line of wal2json leaves out: which columns its table has, and what became of the others.

pgoutput sends a relation's shape, wal2json only the columns that have a value. The rest is told by
the source's catalog, a `Shape`, read after the line's transaction was committed. It may be newer
than the line, so that what the line itself tells comes first:

- A row has the columns that were sent, in their types; generated ones are left out.
- An Update has those of the catalog's columns besides that may be TOAST: left alone, so not sent.
  Not one whose place in the table (attnum) a column that was sent has: it is that one, renamed. A
  column that the catalog lacks is gone, and what it held is nobody's concern.
- The key of an Update or Delete is its identity, the key of an Insert the primary key as it was;
  only where an index is the replica identity, or the whole row, has the catalog to say so.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cdc.errors import ProtocolError
from cdc.wire.jsonline import Field, Line, type_of
from cdc.wire.messages import UNKNOWN_TYPE, Column, Relation


@dataclass(slots=True, frozen=True)
class ShapeColumn:
    """A column as the source's catalog has it."""

    name: str
    number: int
    """pg_attribute.attnum: it outlives a change of name, and no other column gets it."""
    is_key: bool
    """Part of the index that is the replica identity."""
    type_oid: int
    type_modifier: int
    toastable: bool
    generated: bool


@dataclass(slots=True, frozen=True)
class Shape:
    """A table as the source's catalog has it; without columns where it is gone."""

    replica_identity: str = "d"
    """As in pg_class.relreplident."""
    partitioned: bool = False
    columns: tuple[ShapeColumn, ...] = ()

    @property
    def identity(self) -> set[str]:
        """Names of the columns that an Update or Delete sends as its identity."""
        full = self.replica_identity == "f"
        return {column.name for column in self.columns if full or column.is_key}


@dataclass(slots=True, frozen=True)
class Layout:
    """How the rows of lines with the same columns become rows of a relation."""

    relation: Relation
    places: tuple[int | None, ...]
    """For each column of the relation, where its new value is in the line; None: UNCHANGED."""
    old_places: tuple[int | None, ...]
    """For each column of the relation, where its old value is in the line; None: not sent."""
    is_full: bool
    """The identity is the whole row."""


def lay_out_insert(line: Line, relation_id: int, shape: Shape) -> Layout:
    """Return the layout of an Insert."""
    fields = line.columns or []
    is_full = shape.replica_identity == "f"
    keys = {field.name for field in line.pk or []}
    # A part of an index would take different rows for the same one.
    if shape.replica_identity == "i" and shape.identity <= {field.name for field in fields}:
        keys = shape.identity
    columns = tuple(_sent(fields, shape, keys, is_full=is_full).values())
    relation = _relation(line, relation_id, shape, columns, is_full=is_full)
    return _layout(relation, fields, [], is_full=is_full)


def lay_out_update(line: Line, relation_id: int, shape: Shape) -> Layout:
    """Return the layout of an Update."""
    fields, identity = line.columns or [], line.identity or []
    names, keys = {field.name for field in fields}, {field.name for field in identity}
    # Where all columns are the key, only the catalog knows whether the identity is the whole row.
    is_full = names <= keys and (shape.replica_identity == "f" or shape.identity != keys)
    columns = _sent(fields, shape, keys, is_full=is_full)
    numbers = {field.position for field in fields}
    for column in shape.columns:
        left_alone = column.toastable and not column.generated and column.name not in names
        # The whole old row has each of the columns that there were.
        if left_alone and column.number not in numbers and (column.name in keys or not is_full):
            columns[column.number] = Column(
                column.name, column.name in keys, column.type_oid, column.type_modifier
            )
    in_order = tuple(column for _, column in sorted(columns.items()))
    relation = _relation(line, relation_id, shape, in_order, is_full=is_full)
    return _layout(relation, fields, identity, is_full=is_full)


def lay_out_delete(line: Line, relation_id: int, shape: Shape, sent: Relation | None) -> Layout:
    """Return the layout of a Delete: in the relation's shape that was sent last, if it fits."""
    identity = line.identity or []
    is_full = shape.replica_identity == "f" or {f.name for f in identity} > shape.identity > set()
    known = {column.name: column for column in shape.columns}
    columns = tuple(
        _column(field, known.get(field.name), is_key=True)
        for field in identity
        if not (is_full and field.name in known and known[field.name].generated)
    )
    relation = _relation(line, relation_id, shape, columns, is_full=is_full)
    if (
        sent is not None
        and sent.replica_identity == relation.replica_identity
        and tuple(column for column in sent.columns if column.is_key) == columns
    ):
        relation = sent
    return _layout(relation, [], identity, is_full=is_full)


def _sent(fields: list[Field], shape: Shape, keys: set[str], *, is_full: bool) -> dict[int, Column]:
    """Return the columns that were sent, without those that are generated, by their number."""
    known = {column.number: column for column in shape.columns}
    columns: dict[int, Column] = {}
    last = 0
    for field in fields:
        if field.position <= last:
            raise ProtocolError("columns in their order", "another order", 0)
        last = field.position
        column = known.get(field.position)
        if column is not None and column.name != field.name:
            column = None
        if column is None or not column.generated:
            is_key = is_full or field.name in keys
            columns[field.position] = _column(field, column, is_key=is_key)
    return columns


def _column(field: Field, known: ShapeColumn | None, *, is_key: bool) -> Column:
    oid, modifier = type_of(field)
    if oid == UNKNOWN_TYPE and known is not None and known.type_oid == field.typeoid:
        # A modifier that only the catalog puts into a number.
        oid, modifier = known.type_oid, known.type_modifier
    return Column(field.name, is_key, oid, modifier)


def _relation(
    line: Line, relation_id: int, shape: Shape, columns: tuple[Column, ...], *, is_full: bool
) -> Relation:
    told = shape.replica_identity
    identity = "f" if is_full else "d" if told == "f" else told
    return Relation(relation_id, line.schema, line.table, identity, columns)


def _layout(
    relation: Relation, fields: Sequence[Field], identity: Sequence[Field], *, is_full: bool
) -> Layout:
    places, old_places = _places(fields), _places(identity)
    return Layout(
        relation,
        tuple(places.get(column.name) for column in relation.columns),
        tuple(old_places.get(column.name) for column in relation.columns),
        is_full,
    )


def _places(fields: Sequence[Field]) -> dict[str, int]:
    places = {field.name: place for place, field in enumerate(fields)}
    if len(places) != len(fields):
        raise ProtocolError("columns of different names", "a name twice", 0)
    return places

"""The quarantine: changes that could not be applied, in a table of the target, and who waits there.

A change goes in by the transaction that moves the checkpoint past it, so that it is in one of two
places: applied, or here. Later changes of the same row go in behind it, in order (`changes.held`).
Which rows wait is remembered from session to session by the table alone; this object is its mirror,
kept up to date by the one daemon that writes. Somebody may empty the quarantine meanwhile
(`assure.quarantine`): then the server refuses to let a change wait for nothing (`STALE`), and the
mirror has to be loaded anew.

An entry holds the row's values, as the source sent them: this is a table of rows like any other. No
message or log line does.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import psycopg
from psycopg.rows import class_row

from cdc.changes.change import Change
from cdc.changes.fold import Truncation
from cdc.changes.held import Held, Waiting
from cdc.changes.policy import Policy
from cdc.changes.relations import Table, identify, key_getter
from cdc.lsn import Lsn, format_lsn
from cdc.postgres.session import Connection
from cdc.target.action import Execute
from cdc.target.refusal import Refusal
from cdc.wire.messages import UNCHANGED, Column, Relation, Row, Value

STALE = "CD003"
"""SQLSTATE of cdc.wait_behind: there is nothing to wait for any more."""

_HELD = """
select table_schema, table_name, whole_table, known_by, old, new from cdc.quarantine
 where slot = %s and resolved_at is null
"""

_WAIT = (
    b"select cdc.wait_behind($1, $2::pg_lsn, $3, $4, $5, $6::jsonb, $7::text[], $8::text[],"
    b" $9::text[], $10::text[], $11::int4[])"
)

_ADD = (
    b"insert into cdc.quarantine (slot, lsn, table_schema, table_name, operation, shape, known_by,"
    b" old, new, row_values, unchanged, whole_table, sqlstate, reason) values ($1, $2::pg_lsn, $3,"
    b" $4, $5, $6::jsonb, $7::text[], $8::text[], $9::text[], $10::text[], $11::int4[], $12::bool,"
    b" $13, $14)"
)

_RELEASE = (
    b"update cdc.quarantine set resolved_at = clock_timestamp(), resolution = $4"
    b" where slot = $1 and table_schema = $2 and table_name = $3 and resolved_at is null"
)


@dataclass(slots=True)
class _HeldRow:
    table_schema: str
    table_name: str
    whole_table: bool
    known_by: list[str] | None
    old: list[str | None] | None
    new: list[str | None] | None


async def load_held(connection: Connection, slot: str) -> Held:
    """Return what waits."""
    held = Held()
    cursor = connection.cursor(row_factory=class_row(_HeldRow))
    for row in await (await cursor.execute(_HELD, (slot,))).fetchall():
        name = row.table_schema, row.table_name
        if row.whole_table:
            held.tables.add(name)
        rows = [_bytes(known) for known in (row.old, row.new) if known is not None]
        held.hold(name, rows, None if row.known_by is None else tuple(row.known_by))
    return held


def _bytes(values: Sequence[str | None]) -> Row:
    return tuple(None if value is None else value.encode() for value in values)


async def count_open(connection: Connection, slot: str) -> int:
    """Return how many changes are in quarantine; none where there is no bookkeeping yet."""
    try:
        cursor = await connection.execute(
            "select count(*)::int from cdc.quarantine where slot = %s and resolved_at is null",
            (slot,),
        )
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return 0
    row = await cursor.fetchone()
    return 0 if row is None else int(str(row[0]))


def wait(slot: str, waiting: Waiting) -> Execute:
    """Return the statement that puts a change behind the one that it waits for."""
    return Execute(_WAIT, _change_parameters(slot, waiting.change, waiting.lsn))


def add(slot: str, change: Change | Truncation, lsn: Lsn, refusal: Refusal) -> Iterator[Execute]:
    """Yield the statements that put a change, which the target has refused, into the quarantine."""
    whole: Value = b"t" if refusal.whole_table else b"f"
    state = None if refusal.sqlstate is None else refusal.sqlstate.encode()
    why = (whole, state, refusal.reason.encode())
    if isinstance(change, Truncation):
        for table in change.tables:
            yield Execute(_ADD, (*_truncate_parameters(slot, table, lsn), *why))
    else:
        yield Execute(_ADD, (*_change_parameters(slot, change, lsn), *why))


def wait_with_truncate(slot: str, table: Table, lsn: Lsn) -> Execute:
    """Return the statement that puts the truncate of a table behind what it waits for."""
    return Execute(_WAIT, _truncate_parameters(slot, table, lsn))


def release(slot: str, table: Table, resolution: str) -> Execute:
    """Return the statement that ends the waiting of all that is of a table."""
    schema, name = table.name
    parameters = (slot, schema, name, resolution)
    return Execute(_RELEASE, tuple(parameter.encode() for parameter in parameters))


def _change_parameters(slot: str, change: Change, lsn: Lsn) -> Row:
    schema, name = change.table.name
    row = change.row
    unchanged = None if row is None else [n for n, value in enumerate(row) if value is UNCHANGED]
    return (
        slot.encode(),
        format_lsn(lsn).encode(),
        schema.encode(),
        name.encode(),
        change.operation.encode(),
        _encode_shape(change.table),
        _array([column.encode() for column in change.known_by]),
        _array(change.old),
        _array(change.new),
        None if row is None else _array([None if v is UNCHANGED else v for v in row]),
        None if unchanged is None else b"{%b}" % b",".join(b"%d" % n for n in unchanged),
    )


def _truncate_parameters(slot: str, table: Table, lsn: Lsn) -> Row:
    schema, name = table.name
    head = (slot, format_lsn(lsn), schema, name, "truncate")
    return (*(text.encode() for text in head), None, None, None, None, None, None)


def _array(values: Sequence[Value] | None) -> Value:
    """Return values as the text of an array (manual, "Array Input and Output Syntax")."""
    if values is None:
        return None
    return b"{%b}" % b",".join(b"NULL" if value is None else _element(value) for value in values)


def _element(value: bytes) -> bytes:
    return b'"%b"' % value.replace(b"\\", b"\\\\").replace(b'"', b'\\"')


class _Shape(msgspec.Struct):
    """Of a table, what a change of it needs to be applied later."""

    columns: list[tuple[str, int, int]]
    """Name, type and modifier."""
    key: tuple[int, ...]
    deletes: Literal["replicate", "soft", "ignore"]
    marker: str


def _encode_shape(table: Table) -> bytes:
    columns = [(c.name, c.type_oid, c.type_modifier) for c in table.relation.columns]
    policy = table.policy
    return msgspec.json.encode(_Shape(columns, table.key, policy.deletes, policy.marker))


@dataclass(slots=True, frozen=True)
class Entry:
    """A change in quarantine."""

    id: int
    at: str
    lsn: str
    operation: str
    sqlstate: str | None
    reason: str | None
    """Why it was refused, at the last try; None: it waits behind an earlier one."""
    whole_table: bool
    resolved_at: str | None
    resolution: str | None
    change: Change | Truncation

    @property
    def table(self) -> Table:
        """The table that it changes."""
        if isinstance(self.change, Truncation):
            return self.change.tables[0]
        return self.change.table

    def hold(self, held: Held) -> None:
        """Let what comes later of the same row wait."""
        if self.whole_table or isinstance(self.change, Truncation):
            held.tables.add(self.table.name)
        if isinstance(self.change, Change):
            held.hold_change(self.change)


@dataclass(slots=True)
class _EntryRow:
    id: int
    at: str
    lsn: str
    table_schema: str
    table_name: str
    operation: str
    shape: str | None
    old: list[str | None] | None
    row_values: list[str | None] | None
    unchanged: list[int] | None
    sqlstate: str | None
    reason: str | None
    whole_table: bool
    resolved_at: str | None
    resolution: str | None


_ENTRIES = """
select id, at::text, lsn::text, table_schema, table_name, operation, shape::text, old, row_values,
       unchanged, sqlstate, reason, whole_table, resolved_at::text, resolution
  from cdc.quarantine where slot = %s and (%s or resolved_at is null) order by id
"""


async def load_entries(connection: Connection, slot: str, *, resolved: bool = False) -> list[Entry]:
    """Return the entries that are open, in order; with `resolved` those too that once were."""
    cursor = connection.cursor(row_factory=class_row(_EntryRow))
    try:
        await cursor.execute(_ENTRIES, (slot, resolved))
    except psycopg.errors.UndefinedTable:
        return []
    return [_entry(row) for row in await cursor.fetchall()]


def _entry(row: _EntryRow) -> Entry:
    return Entry(
        row.id,
        row.at,
        row.lsn,
        row.operation,
        row.sqlstate,
        row.reason,
        row.whole_table,
        row.resolved_at,
        row.resolution,
        _decode_change(row),
    )


def _decode_change(row: _EntryRow) -> Change | Truncation:
    if row.shape is None:
        bare = Relation(0, row.table_schema, row.table_name, "d", ())
        return Truncation((identify(bare, {}),), restart_identity=False)
    shape = msgspec.json.decode(row.shape, type=_Shape)
    table = _decode_shape(row.table_schema, row.table_name, shape)
    values = None if row.row_values is None else list(_bytes(row.row_values))
    if values is not None:
        for position in row.unchanged or ():
            values[position] = UNCHANGED
    return Change(
        table,
        None if row.old is None else _bytes(row.old),
        None if values is None else tuple(values),
    )


def _decode_shape(schema: str, name: str, shape: _Shape) -> Table:
    """Return the table as it was then."""
    positions = shape.key
    columns = tuple(
        Column(column, is_key=n in positions, type_oid=type_oid, type_modifier=modifier)
        for n, (column, type_oid, modifier) in enumerate(shape.columns)
    )
    policy = Policy(deletes=shape.deletes, marker=shape.marker)
    names = tuple(column.name for column in (*columns, *policy.added))
    relation = Relation(0, schema, name, "d", columns)
    key_of, own = key_getter(positions), (schema, name)
    return Table(relation, names, positions, key_of, policy, policy.retains, own)

"""The shape of one table as the source's catalog has it now: what wal2json does not send."""

from dataclasses import dataclass

from psycopg.rows import class_row

from cdc.lsn import Lsn, parse_lsn
from cdc.postgres.session import Connection
from cdc.wire.layout import Shape, ShapeColumn

# The position has to be older than the catalog: two statements, each with a snapshot of its own.
_WAL_END = """
select (case when pg_is_in_recovery() then pg_last_wal_replay_lsn()
        else pg_current_wal_insert_lsn() end)::text
"""

# Of variable length: whatever its storage is now, older values may be TOAST.
_SHAPE = """
select c.relreplident::text as replica_identity, c.relkind = 'p' as partitioned,
       a.attname::text as name, a.attnum as number,
       coalesce(a.attnum = any ((i.indkey::int2[])[0:i.indnkeyatts - 1]), false) as is_key,
       a.atttypid::int8 as type_oid, a.atttypmod as type_modifier,
       a.attlen = -1 as toastable, a.attgenerated <> '' as generated
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  left join pg_index i on i.indrelid = c.oid and i.indisvalid and i.indimmediate and
       case c.relreplident when 'd' then i.indisprimary when 'i' then i.indisreplident end
  left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
 where n.nspname = %s and c.relname = %s and c.relkind in ('r', 'p')
 order by a.attnum
"""


@dataclass(slots=True)
class _Row:
    replica_identity: str
    partitioned: bool
    name: str | None
    """None: the table has no column."""
    number: int
    is_key: bool
    type_oid: int
    type_modifier: int
    toastable: bool
    generated: bool


async def load_shape(source: Connection, schema: str, table: str) -> tuple[Shape | None, Lsn]:
    """Return a table's shape, None where it is gone, and an LSN that it is newer than."""
    rows = source.cursor(row_factory=class_row(_Row))
    async with source.pipeline():
        end = await source.execute(_WAL_END)
        await rows.execute(_SHAPE, (schema, table))
    position = await end.fetchone()
    assert position is not None
    lsn = parse_lsn(str(position[0]))
    found = await rows.fetchall()
    if not found:
        return None, lsn
    columns = tuple(
        ShapeColumn(
            row.name,
            row.number,
            row.is_key,
            row.type_oid,
            row.type_modifier,
            row.toastable,
            row.generated,
        )
        for row in found
        if row.name is not None
    )
    return Shape(found[0].replica_identity, found[0].partitioned, columns), lsn

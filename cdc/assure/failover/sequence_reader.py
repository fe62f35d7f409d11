"""Reads sequences: those of the target with the columns that they feed, those of the source.

A sequence feeds a column that owns it (serial, identity), or whose default asks for its next value.
Where a column has no index, its greatest value takes a look at the whole table.
"""

from collections import defaultdict
from collections.abc import Iterable
from collections.abc import Sequence as Names
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from cdc.assure.failover.sequences import Sequence
from cdc.postgres.ordering import QualifiedName
from cdc.postgres.session import Connection

_SEQUENCES = """
with fed (sequence, relation, number) as (
  select objid, refobjid, refobjsubid from pg_depend
   where classid = 'pg_class'::regclass and refclassid = 'pg_class'::regclass
     and deptype in ('a', 'i') and refobjsubid > 0
  union
  select p.refobjid, d.adrelid, d.adnum from pg_attrdef d join pg_depend p
      on p.classid = 'pg_attrdef'::regclass and p.objid = d.oid
     and p.refclassid = 'pg_class'::regclass and p.deptype = 'n'
)
select n.nspname::text as schema, s.relname::text as name,
       pg_has_role(s.relowner, 'usage') as owned, q.seqincrement as increment, q.seqmin as low,
       q.seqmax as high, cn.nspname::text as of_schema, c.relname::text as of_table,
       a.attname::text as of_column,
       coalesce(nullif(t.typbasetype, 0), t.oid) in
         ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype) as whole
  from pg_sequence q join pg_class s on s.oid = q.seqrelid
  join pg_namespace n on n.oid = s.relnamespace
  left join fed f on f.sequence = s.oid
  left join pg_class c on c.oid = f.relation left join pg_namespace cn on cn.oid = c.relnamespace
  left join pg_attribute a on a.attrelid = f.relation and a.attnum = f.number
  left join pg_type t on t.oid = a.atttypid
 where (n.nspname = any(%(schemas)s) or cn.nspname = any(%(schemas)s)) and n.nspname <> 'cdc'
   and s.relpersistence = 'p'
 order by 1, 2, 7, 8, 9
"""

_OF_SOURCE = """
select schemaname::text, sequencename::text, last_value + increment_by
  from pg_sequences where schemaname <> 'cdc' and last_value is not null
"""


@dataclass(slots=True)
class _Row:
    schema: str
    name: str
    owned: bool
    increment: int
    low: int
    high: int
    of_schema: str | None
    of_table: str | None
    of_column: str | None
    whole: bool | None


async def load_sequences(connection: Connection, schemas: Names[str]) -> list[Sequence]:
    """Read the target's sequences, of the schemas or that feed a column there."""
    cursor = connection.cursor(row_factory=class_row(_Row))
    await cursor.execute(_SEQUENCES, {"schemas": list(schemas)})
    rows = defaultdict[QualifiedName, list[_Row]](list)
    for row in await cursor.fetchall():
        rows[row.schema, row.name].append(row)
    return [await _load(connection, name, parts) for name, parts in rows.items()]


async def load_source_next(connection: Connection) -> dict[QualifiedName, int]:
    """Return what the source's sequences would give next, of those that our role may read.

    One that was never asked for a number is not among them.
    """
    rows = await (await connection.execute(_OF_SOURCE)).fetchall()
    return {(str(schema), str(name)): int(str(number)) for schema, name, number in rows}


async def _load(connection: Connection, name: QualifiedName, rows: Iterable[_Row]) -> Sequence:
    columns, unread, values = list[str](), list[str](), list[int]()
    *_, row = rows
    for part in rows:
        if part.of_schema is None or part.of_table is None or part.of_column is None:
            continue
        column = f"{part.of_schema}.{part.of_table}.{part.of_column}"
        columns.append(column)
        try:
            value = await _furthest(connection, part, part.of_schema, part.of_table, part.of_column)
        except (InvalidOperation, OverflowError, ValueError, psycopg.errors.InsufficientPrivilege):
            unread.append(column)
        else:
            values += [] if value is None else [value]
    furthest = max if row.increment > 0 else min
    return Sequence(
        name,
        row.owned,
        row.increment,
        row.low,
        row.high,
        # One that we may not move we may not read either: it is taken to stand at its begin.
        await _next(connection, name, row.increment) if row.owned else row.low,
        tuple(columns),
        furthest(values) if values else None,
        tuple(unread),
    )


async def _furthest(
    connection: Connection, row: _Row, schema: str, table: str, column: str
) -> int | None:
    """Return the greatest value of a column, or of a descending sequence the least."""
    if not row.whole:
        raise ValueError(column)
    query = sql.SQL("select {}({})::text from {}").format(
        sql.SQL("max" if row.increment > 0 else "min"),
        sql.Identifier(column),
        sql.Identifier(schema, table),
    )
    async with connection.transaction():  # what is refused takes nothing else along
        found = await (await connection.execute(query)).fetchone()
    if found is None or found[0] is None:
        return None
    rounding = ROUND_CEILING if row.increment > 0 else ROUND_FLOOR
    return int(Decimal(str(found[0])).to_integral_value(rounding))


async def _next(connection: Connection, name: QualifiedName, increment: int) -> int:
    query = sql.SQL("select last_value, is_called from {}").format(sql.Identifier(*name))
    row = await (await connection.execute(query)).fetchone()
    assert row is not None
    return int(str(row[0])) + (increment if row[1] else 0)

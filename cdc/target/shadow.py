"""A shadow: a table beside a table, which gets its rows anew while the old ones stay readable.

It has the table's columns and, if rows have a key, an index on it; neither foreign keys nor other
constraints, since a part of the rows may not meet them. When all rows are there they take the place
of the old ones (`target.merge`).
"""

from collections.abc import Sequence

from cdc.changes.copies import QualifiedName
from cdc.postgres.catalog import CatalogTable
from cdc.postgres.names import quoted
from cdc.postgres.session import Connection
from cdc.target.copies import SHADOWS


async def make_shadow(
    connection: Connection, table: CatalogTable, name: str, key: Sequence[str]
) -> None:
    """Create a table's shadow, empty."""
    shadow = quoted(SHADOWS, name)
    like = f"like {quoted(*table.qualified_name)} including defaults including generated"
    await connection.execute(f"create table {shadow} ({like})".encode())
    for column in table.columns:
        if column.not_null and column.name not in key:
            # An old row's NULL is refused when it is merged, by the table itself.
            alter = f"alter table {shadow} alter column {quoted(column.name)} drop not null"
            if not column.identity:
                await connection.execute(alter.encode())
    if key:
        index = f"create unique index on {shadow} ({', '.join(map(quoted, key))})"
        await connection.execute(index.encode())


_OUTGROWN = """
select k.table_schema, k.table_name
  from cdc.copy k
 where k.slot = %s and k.shadow is not null and k.completed_at is null
   and to_regclass(format('%%I.%%I', k.table_schema, k.table_name)) is not null
   and (select array_agg((attname, atttypid, atttypmod, attgenerated) order by attname)
          from pg_attribute where attnum > 0 and not attisdropped
           and attrelid = to_regclass(format('%%I.%%I', k.table_schema, k.table_name)))
       is distinct from
       (select array_agg((attname, atttypid, atttypmod, attgenerated) order by attname)
          from pg_attribute where attnum > 0 and not attisdropped
           and attrelid = to_regclass(format('%%I.%%I', %s::text, k.shadow)))
"""


async def outgrown(connection: Connection, slot: str) -> list[QualifiedName]:
    """Return the tables that were altered since their shadows were made."""
    cursor = await connection.execute(_OUTGROWN, (slot, SHADOWS))
    return [(str(schema), str(name)) for schema, name in await cursor.fetchall()]


async def drop_shadows(connection: Connection) -> None:
    """Drop the shadows that no copy has any more."""
    cursor = await connection.execute(
        "select c.relname::text from pg_class c where c.relnamespace = %s::regnamespace"
        " and c.relkind = 'r' and c.relname like 'shadow %%'"
        " and not exists (select from cdc.copy k where k.shadow = c.relname)",
        (SHADOWS,),
    )
    for (name,) in await cursor.fetchall():
        await connection.execute(f"drop table {quoted(SHADOWS, str(name))}".encode())

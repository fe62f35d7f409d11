"""A shadow: a table beside a table, which gets its rows anew while the old ones stay readable.

It has the table's columns and, if rows have a key, an index on it; neither foreign keys nor other
constraints, since a part of the rows may not meet them. When all rows are there they take the
place of the old ones by one transaction (`merge`): rows that are as they were are not touched, what
is extra goes, or is marked, or stays, as the table's policy says of deleted rows.
"""

from collections.abc import Sequence

import psycopg

from cdc.changes.policy import Policy
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


async def merge(
    connection: Connection,
    table: CatalogTable,
    name: str,
    *,
    columns: Sequence[str],
    key: Sequence[str],
    policy: Policy,
) -> None:
    """Let a table have its shadow's rows, in the transaction that is open.

    `columns` are those that the copy has brought; of a row that is there, others stay.
    """
    shadow = quoted(SHADOWS, name)
    whole = table.partitioned
    own = f"{'' if whole else 'only '}{quoted(*table.qualified_name)}"
    into = quoted(*table.qualified_name)
    listed = ", ".join(map(quoted, columns))
    if not key:
        await connection.execute(f"delete from {own}".encode())
        insert = f"insert into {into} ({listed}) select {listed} from {shadow}"
        await connection.execute(insert.encode())
    else:
        await _by_key(connection, own, into, shadow, columns=columns, key=key, policy=policy)


async def _by_key(
    connection: Connection,
    own: str,
    into: str,
    shadow: str,
    *,
    columns: Sequence[str],
    key: Sequence[str],
    policy: Policy,
) -> None:
    listed = ", ".join(map(quoted, columns))
    same = " and ".join(f"t.{quoted(c)} = s.{quoted(c)}" for c in key)
    extra = f"not exists (select from {shadow} s where {same})"
    marker = quoted(policy.marker)
    match policy.deletes:
        case "replicate":
            await connection.execute(f"delete from {own} t where {extra}".encode())
        case "soft":
            update = f"update {own} t set {marker} = clock_timestamp() where {marker} is null"
            await connection.execute(f"{update} and {extra}".encode())
        case "ignore":
            pass
    sets = ", ".join(f"{quoted(c)} = s.{quoted(c)}" for c in columns)
    # Compared as texts: 1.0 is not 1.00, and a json has no equality.
    differs = (
        f"({', '.join(f't.{quoted(c)}::text' for c in columns)}) is distinct from"
        f" ({', '.join(f's.{quoted(c)}::text' for c in columns)})"
    )
    try:
        async with connection.transaction():
            update = f"update {own} t set {sets} from {shadow} s where {same} and {differs}"
            await connection.execute(update.encode())
    except psycopg.errors.IntegrityError:
        # Rows that swap a unique value: out with all that differ, then in again.
        delete = f"delete from {own} t using {shadow} s where {same} and {differs}"
        await connection.execute(delete.encode())
    missing = f"not exists (select from {own} t where {same})"
    insert = f"insert into {into} ({listed}) select {listed} from {shadow} s where {missing}"
    await connection.execute(insert.encode())

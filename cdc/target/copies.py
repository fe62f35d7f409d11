"""The copies under way, in a table of the target: what is asked for, begun and complete.

What a table's copy is cut into, and which parts of it are there, is in another (`chunks`). Every
transaction that writes rows makes sure that the checkpoint is still this daemon's (`require_ours`):
what is marked is there, and was there when the stream stood at the checkpoint. Nothing is
remembered elsewhere, so that whoever is killed goes on where these tables say.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import psycopg
from psycopg.rows import class_row

from cdc.changes.copies import Copies, QualifiedName, Range, Stage, TableCopy
from cdc.postgres.names import quoted
from cdc.postgres.session import Connection
from cdc.target.checkpoint import Checkpoint, fenced, keep_copy
from cdc.target.chunks import make_chunks

SHADOWS = "cdc"
"""Schema of the shadows."""


@dataclass(slots=True)
class CopyRow:
    """A copy as the target has it."""

    table_schema: str
    table_name: str
    shadow: str | None
    foreign_keys: list[str]
    replaces: bool
    """Rows that the table has may go: the copy was asked for."""
    live: bool
    """The stream has been applied to the table without a gap: it is mended in place."""
    seen_whole: bool
    """It was complete once: who reads the table expects whole states."""
    begun: bool
    completed: bool
    chunks: int
    chunks_copied: int
    rows: int
    bytes: int
    seconds: float | None
    """Since it was begun."""

    @property
    def name(self) -> QualifiedName:
        """Schema and name of the table."""
        return self.table_schema, self.table_name

    @property
    def destination(self) -> QualifiedName:
        """Where its rows go."""
        return self.name if self.shadow is None else (SHADOWS, self.shadow)

    @property
    def stage(self) -> Stage:
        """How far it has come."""
        if not self.begun or not self.chunks_copied:
            return Stage.NOT_BEGUN
        return Stage.WHOLE if self.chunks_copied == self.chunks else Stage.IN_PART


_COPIES = """
select c.table_schema, c.table_name, c.shadow, c.foreign_keys, c.replaces, c.live,
       c.relation is not null as seen_whole, c.begun_at is not null as begun,
       c.completed_at is not null as completed, count(s.chunk)::int as chunks,
       count(s.copied_at)::int as chunks_copied,
       coalesce(c.rows, sum(s.rows), 0)::int8 as rows,
       coalesce(c.bytes, sum(s.bytes), 0)::int8 as bytes,
       extract(epoch from clock_timestamp() - c.begun_at)::float8 as seconds
  from cdc.copy c left join cdc.snapshot_chunk s using (slot, table_schema, table_name)
 where c.slot = %s group by c.slot, c.table_schema, c.table_name
"""


async def load_copies(connection: Connection, slot: str) -> list[CopyRow]:
    """Return the newest copy of each table; none where there is no bookkeeping yet."""
    cursor = connection.cursor(row_factory=class_row(CopyRow))
    try:
        return await (await cursor.execute(_COPIES, (slot,))).fetchall()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return []


async def count_due(connection: Connection, slot: str) -> int:
    """Return how many tables are still to be copied; not those that the target lacks."""
    cursor = await connection.execute(
        "select count(*)::int from cdc.copy where slot = %s and completed_at is null"
        " and (begun_at is not null"
        "      or to_regclass(format('%%I.%%I', table_schema, table_name)) is not null)",
        (slot,),
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(str(row[0]))


def mirror(rows: Iterable[CopyRow]) -> Copies:
    """Return the copies as whoever folds changes needs them."""
    copies = Copies(
        [row.name for row in rows if row.completed or row.live],
        [
            TableCopy(row.name, row.destination, row.stage)
            for row in rows
            if not row.completed and not row.live
        ],
    )
    copies.mending = {row.name for row in rows if row.live and not row.completed}
    return copies


async def request_copies(connection: Connection, slot: str, names: Iterable[QualifiedName]) -> None:
    """Note that tables are to be copied that nobody has heard of."""
    await connection.cursor().executemany(
        "insert into cdc.copy (slot, table_schema, table_name) values (%s, %s, %s)"
        " on conflict do nothing",
        [(slot, *name) for name in names],
    )


async def request_anew(
    connection: Connection, slot: str, names: Iterable[QualifiedName], *, gap: bool
) -> None:
    """Note that tables are to be copied again; rows that they have may go.

    `gap`: changes may be missing, so that the rows that are there cannot be changed any more.
    """
    for schema, name in names:
        where = {"slot": slot, "schema": schema, "name": name, "gap": gap}
        # The copy first: whoever is cutting it into chunks just now is waited for.
        await connection.execute(
            "insert into cdc.copy as c (slot, table_schema, table_name, replaces)"
            " values (%(slot)s, %(schema)s, %(name)s, true)"
            " on conflict (slot, table_schema, table_name) do update set replaces = true,"
            " live = (c.live or c.completed_at is not null) and not %(gap)s,"
            " begun_at = null, completed_at = null, rows = null, bytes = null,"
            " requested_at = clock_timestamp()",
            where,
        )
        await connection.execute(
            "delete from cdc.snapshot_chunk where slot = %(slot)s"
            " and table_schema = %(schema)s and table_name = %(name)s",
            where,
        )


async def take_over(connection: Connection, slot: str, names: Iterable[QualifiedName]) -> None:
    """Note that the target holds the rows of tables already."""
    await connection.cursor().executemany(
        "insert into cdc.copy (slot, table_schema, table_name, rows, bytes, completed_at, relation)"
        " values (%s, %s, %s, 0, 0, clock_timestamp(), to_regclass(%s)) on conflict do nothing",
        [(slot, *name, quoted(*name)) for name in names],
    )


async def follow_renames(connection: Connection, slot: str) -> None:
    """Note tables of the target under their new names: live ones, of which a change may be missing.

    It came under a name that nobody had heard of: so each is compared and mended.
    """
    await connection.execute(
        "update cdc.copy c set table_schema = n.nspname, table_name = r.relname, live = true,"
        "  replaces = true, begun_at = null, completed_at = null, rows = null, bytes = null"
        " from pg_class r join pg_namespace n on n.oid = r.relnamespace"
        " where c.slot = %s and c.completed_at is not null and c.relation = r.oid"
        "   and (n.nspname, r.relname) <> (c.table_schema, c.table_name)"
        "   and not exists (select from cdc.copy o where o.slot = c.slot"
        "         and (o.table_schema, o.table_name) = (n.nspname, r.relname))",
        (slot,),
    )


async def begin_copy(
    connection: Connection,
    slot: str,
    name: QualifiedName,
    *,
    shadow: str | None,
    foreign_keys: Sequence[str],
    parts: Sequence[Range],
) -> None:
    """Note into which chunks a table is cut, and where they go; raise Fenced if it is no copy.

    Changes of it that are in quarantine will be in the copy.
    """
    await connection.execute(
        "update cdc.quarantine set resolved_at = clock_timestamp(), resolution = 'copied anew'"
        " where slot = %s and table_schema = %s and table_name = %s and resolved_at is null",
        (slot, *name),
    )
    await connection.execute(
        "update cdc.copy set begun_at = clock_timestamp(), shadow = %s, foreign_keys = %s"
        " where slot = %s and table_schema = %s and table_name = %s",
        (shadow, list(foreign_keys), slot, *name),
    )
    await make_chunks(connection, slot, name, parts)
    await keep_copy(connection, slot)


async def mark_complete(connection: Connection, slot: str, names: Sequence[QualifiedName]) -> None:
    """Mark copies as complete, in the transaction that made them so."""
    for name in names:
        await connection.execute(
            "with gone as (delete from cdc.snapshot_chunk"
            "  where slot = %(slot)s and table_schema = %(schema)s and table_name = %(name)s"
            "  returning rows, bytes)"
            " update cdc.copy set completed_at = clock_timestamp(), shadow = null, live = false,"
            "  relation = to_regclass(format('%%I.%%I', table_schema, table_name)),"
            "  foreign_keys = '{}', rows = (select sum(rows) from gone),"
            "  bytes = (select sum(bytes) from gone)"
            " where slot = %(slot)s and table_schema = %(schema)s and table_name = %(name)s",
            {"slot": slot, "schema": name[0], "name": name[1]},
        )


async def require_ours(connection: Connection, checkpoint: Checkpoint) -> None:
    """Keep the checkpoint where it is until the transaction ends; raise Fenced if not ours."""
    cursor = await connection.execute(
        "select from cdc.checkpoint where slot = %s and epoch = %s and lsn = %s::pg_lsn for share",
        (checkpoint.identity.slot, checkpoint.epoch, checkpoint.lsn_text),
    )
    if await cursor.fetchone() is None:
        raise fenced(checkpoint.identity.slot)

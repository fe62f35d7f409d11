"""The chunks of copies under way, in a table of the target, each marked when its rows are there.

A mark is written by the transaction that writes the rows. When a copy is complete its chunks are
gone (`copies.mark_complete`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg.rows import class_row

from cdc.changes.copies import QualifiedName, Range
from cdc.errors import Unavailable
from cdc.postgres.session import Connection


@dataclass(slots=True, frozen=True)
class Chunk:
    """A part of a table that is still to be copied."""

    table: QualifiedName
    number: int
    part: Range


async def make_chunks(
    connection: Connection, slot: str, name: QualifiedName, parts: Sequence[Range]
) -> None:
    """Note into which chunks a table is cut."""
    await connection.cursor().executemany(
        "insert into cdc.snapshot_chunk (slot, table_schema, table_name, chunk, lower, upper)"
        " values (%s, %s, %s, %s, %s, %s)",
        [
            (slot, *name, number, _array(part.lower), _array(part.upper))
            for number, part in enumerate(parts)
        ],
    )


def _array(bound: tuple[str, ...] | None) -> list[str] | None:
    return None if bound is None else list(bound)


@dataclass(slots=True)
class _ChunkRow:
    table_schema: str
    table_name: str
    chunk: int
    lower: list[str] | None
    upper: list[str] | None


async def load_chunks(connection: Connection, slot: str) -> list[Chunk]:
    """Return the chunks that are still to be copied, table by table."""
    cursor = connection.cursor(row_factory=class_row(_ChunkRow))
    await cursor.execute(
        "select table_schema, table_name, chunk, lower, upper from cdc.snapshot_chunk"
        " where slot = %s and copied_at is null order by 1, 2, 3",
        (slot,),
    )
    return [
        Chunk(
            (row.table_schema, row.table_name),
            row.chunk,
            Range(
                None if row.lower is None else tuple(row.lower),
                None if row.upper is None else tuple(row.upper),
            ),
        )
        for row in await cursor.fetchall()
    ]


async def mark_copied(
    connection: Connection, slot: str, chunk: Chunk, *, rows: int, size: int
) -> None:
    """Mark a chunk, in the transaction that wrote its rows; Unavailable if it is none any more.

    Known by its range too: the number may be that of the whole table by now (`make_one_chunk`).
    """
    part = chunk.part
    cursor = await connection.execute(
        "update cdc.snapshot_chunk set rows = %s, bytes = %s, copied_at = clock_timestamp()"
        " where slot = %s and table_schema = %s and table_name = %s and chunk = %s"
        " and lower is not distinct from %s::text[] and upper is not distinct from %s::text[]",
        (rows, size, slot, *chunk.table, chunk.number, *map(_array, (part.lower, part.upper))),
    )
    if cursor.rowcount != 1:
        raise Unavailable("a copy under way was asked for anew")


async def make_one_chunk(connection: Connection, slot: str, name: QualifiedName) -> None:
    """Let a table be copied as a whole, by one transaction."""
    where = (slot, *name)
    await connection.execute(
        "delete from cdc.snapshot_chunk where slot = %s and table_schema = %s and table_name = %s",
        where,
    )
    await connection.execute(
        "insert into cdc.snapshot_chunk (slot, table_schema, table_name, chunk)"
        " values (%s, %s, %s, 0)",
        where,
    )

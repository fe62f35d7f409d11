"""One chunk: read under a snapshot, written and marked in one transaction of the target.

COPY to COPY: what the source sends is what the target reads, nothing is decoded on the way. What
was in the chunk's range before goes, so that a chunk may be copied any number of times.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import psycopg

from cdc.backoff import Verdict, judge
from cdc.postgres.names import quoted
from cdc.postgres.session import Connection
from cdc.source.chunks import own, select_chunk
from cdc.sync.layout import TableLayout
from cdc.target.checkpoint import Checkpoint
from cdc.target.copies import Chunk, mark_copied, require_ours
from cdc.target.refusal import refused_copy

# Rows go on in blocks of about this many bytes: a write per row would cost more than the row.
_BLOCK = 1 << 18

Count: TypeAlias = Callable[[int, int], None]
"""Hears of rows and bytes as they go."""


@dataclass(slots=True)
class Sessions:
    """A pair that copies one chunk at a time; the source's is under the snapshot."""

    source: Connection
    target: Connection


async def copy_chunk(
    sessions: Sessions,
    chunk: Chunk,
    table: TableLayout,
    destination: tuple[str, str],
    *,
    checkpoint: Checkpoint,
    count: Count,
) -> None:
    """Copy a chunk; raise Fenced if the checkpoint is not ours, ChangeRefused if it cannot be."""
    source, target = sessions.source, sessions.target
    shadowed = destination != chunk.table
    name = quoted(*destination)
    whole = f"only {name}" if shadowed else own(table.target)
    try:
        async with target.transaction():
            await require_ours(target, checkpoint)
            condition = table.cut.condition(chunk.part)
            await target.execute(f"delete from {whole} where {condition}".encode())
            if table.columns:
                copy_out = select_chunk(
                    table.source, table.published, table.columns, table.cut, chunk.part
                )
                copy_in = f"copy {name} ({', '.join(map(quoted, table.columns))}) from stdin"
                rows, size = await _copy(sessions, copy_out, copy_in, count)
            else:
                rows, size = await _copy_rows_of_nothing(source, target, table, name), 0
            await mark_copied(target, checkpoint.identity.slot, chunk, rows=rows, size=size)
    except psycopg.Error as ex:
        if judge(ex) is not Verdict.REPLAY:
            raise
        raise refused_copy(ex, f"{table.target}") from None


async def _copy(sessions: Sessions, copy_out: str, copy_in: str, count: Count) -> tuple[int, int]:
    rows = size = block_size = 0
    block: list[bytes] = []
    async with (
        sessions.source.cursor().copy(copy_out.encode()) as reading,
        sessions.target.cursor().copy(copy_in.encode()) as writing,
    ):
        async for row in reading:  # the server sends a message a row
            block.append(bytes(row))
            block_size += len(row)
            if block_size >= _BLOCK:
                await writing.write(b"".join(block))
                count(len(block), block_size)
                rows, size = rows + len(block), size + block_size
                block, block_size = [], 0
        await writing.write(b"".join(block))
    count(len(block), block_size)
    return rows + len(block), size + block_size


async def _copy_rows_of_nothing(
    source: Connection, target: Connection, table: TableLayout, name: str
) -> int:
    """Copy a table without columns, for which COPY has no syntax; return how many rows it has."""
    cursor = await source.execute(f"select count(*)::int8 from {own(table.source)}".encode())
    row = await cursor.fetchone()
    assert row is not None
    insert = f"insert into {name} select from generate_series(1, {row[0]}::int8)"
    await target.execute(insert.encode())
    return int(str(row[0]))

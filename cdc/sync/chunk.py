"""One chunk: read under a snapshot, written and marked in one transaction of the target.

COPY to COPY: what the source sends is what the target reads, nothing is decoded on the way. What
was in the chunk's range before goes, so that a chunk may be copied any number of times.

A snapshot older than a TRUNCATE, or than an ALTER TABLE that rewrites, finds the table empty (the
manual's caveat of MVCC): what was read is given up then, and the chunk stays to be copied.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import psycopg

from cdc.backoff import Verdict, judge
from cdc.changes.copies import Range
from cdc.postgres.copyout import copy_out
from cdc.postgres.names import quoted
from cdc.postgres.session import Connection
from cdc.source.chunks import is_as_shown, own, select_chunk
from cdc.sync.layout import TableLayout
from cdc.target.checkpoint import Checkpoint
from cdc.target.chunks import Chunk, make_one_chunk, mark_copied
from cdc.target.copies import CopyRow, require_ours
from cdc.target.merge import merge
from cdc.target.refusal import refused_copy

log = logging.getLogger(__name__)

Count: TypeAlias = Callable[[int, int], None]
"""Hears of rows and bytes as they go."""


class _Rewritten(Exception):
    """The snapshot does not show the table's rows any more."""


@dataclass(slots=True)
class Sessions:
    """A pair that copies one chunk at a time; the source's is under the snapshot."""

    source: Connection
    target: Connection


async def copy_chunk(
    sessions: Sessions,
    chunk: Chunk,
    table: TableLayout,
    row: CopyRow,
    *,
    checkpoint: Checkpoint,
    count: Count,
) -> None:
    """Copy a chunk, unless it has to be read under a newer snapshot.

    Raises Fenced if the checkpoint is not ours, ChangeRefused if it cannot be copied.
    """
    target, slot = sessions.target, checkpoint.identity.slot
    try:
        async with target.transaction():
            await require_ours(target, checkpoint)
            write = _mend if row.live else _replace
            rows, size = await write(sessions, chunk, table, row, count)
            await _require_as_shown(sessions.source, table)
            await mark_copied(target, slot, chunk, rows=rows, size=size)
    except _Rewritten:
        log.info("rewritten meanwhile: it is read again", extra={"relation": str(table.source)})
    except psycopg.errors.UniqueViolation as ex:
        if not row.live or chunk.part == Range():
            raise refused_copy(ex, f"{table.target}") from None
        # A unique value that a row of another chunk has by mistake.
        async with target.transaction():
            await make_one_chunk(target, slot, chunk.table)
    except psycopg.Error as ex:
        if judge(ex) is not Verdict.REPLAY:
            raise
        raise refused_copy(ex, f"{table.target}") from None


async def _require_as_shown(source: Connection, table: TableLayout) -> None:
    if not await is_as_shown(source, table.source.qualified_name):
        raise _Rewritten


async def _replace(
    sessions: Sessions, chunk: Chunk, table: TableLayout, row: CopyRow, count: Count
) -> tuple[int, int]:
    """Write the chunk in the place of what its range held before."""
    name = quoted(*row.destination)
    whole = own(table.target) if row.shadow is None else f"only {name}"
    condition = table.cut.condition(chunk.part)
    await sessions.target.execute(f"delete from {whole} where {condition}".encode())
    return await _fill(sessions, chunk, table, name, count)


async def _mend(
    sessions: Sessions, chunk: Chunk, table: TableLayout, _row: CopyRow, count: Count
) -> tuple[int, int]:
    """Write what differs: all that the table has is as of the snapshot, but for mistakes."""
    name, there = quoted("pg_temp", "cdc chunk"), quoted(*table.target.qualified_name)
    # Without constraints and defaults: it has what the source has.
    await sessions.target.execute(
        f"create temporary table {quoted('cdc chunk')} on commit drop as"
        f" select {', '.join(map(quoted, table.merged))} from {there} with no data".encode()
    )
    found = await _fill(sessions, chunk, table, name, count)
    await sessions.target.execute("set constraints all deferred")
    within = table.cut.condition(chunk.part) if table.key else "true"
    await merge(sessions.target, name, table.merge(within))
    return found


async def _fill(
    sessions: Sessions, chunk: Chunk, table: TableLayout, name: str, count: Count
) -> tuple[int, int]:
    if not table.columns:
        return await _copy_rows_of_nothing(sessions, table, name), 0
    statement = select_chunk(table.source, table.published, table.columns, table.cut, chunk.part)
    copy_in = f"copy {name} ({', '.join(map(quoted, table.columns))}) from stdin"
    return await _copy(sessions, statement, copy_in, count)


async def _copy(sessions: Sessions, statement: str, copy_in: str, count: Count) -> tuple[int, int]:
    rows = size = 0
    async with (
        sessions.target.cursor().copy(copy_in.encode()) as writing,
        copy_out(sessions.source, statement.encode()) as reading,
    ):
        async for lines in reading:
            block = b"".join(lines)
            await writing.write(block)
            count(len(lines), len(block))
            rows, size = rows + len(lines), size + len(block)
    return rows, size


async def _copy_rows_of_nothing(sessions: Sessions, table: TableLayout, name: str) -> int:
    """Copy a table without columns, for which COPY has no syntax; return how many rows it has."""
    cursor = await sessions.source.execute(
        f"select count(*)::int8 from {own(table.source)}".encode()
    )
    row = await cursor.fetchone()
    assert row is not None
    insert = f"insert into {name} select from generate_series(1, {row[0]}::int8)"
    await sessions.target.execute(insert.encode())
    return int(str(row[0]))

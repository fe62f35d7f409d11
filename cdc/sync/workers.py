"""Several connections that copy chunks at once, all under one snapshot.

A chunk is its own transaction on the target. What fails ends the copy; chunks that have their mark
stay copied.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from time import monotonic
from typing import Self

from psycopg import sql

from cdc.changes.copies import QualifiedName
from cdc.postgres.session import connect
from cdc.settings import Settings
from cdc.sync.chunk import Count, Sessions, copy_chunk
from cdc.sync.layout import Layout
from cdc.target.checkpoint import Checkpoint
from cdc.target.chunks import Chunk
from cdc.target.connection import connect_for_rows
from cdc.target.copies import CopyRow
from cdc.target.sole import join_copiers
from cdc.tasks import first_error

# The stream stands still for about so long.
ROUND_S = 5.0


class _Left:
    """The chunks that are left."""

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self._tables: dict[QualifiedName, deque[Chunk]] = {}
        for chunk in chunks:
            self._tables.setdefault(chunk.table, deque()).append(chunk)
        self._untouched = deque(self._tables)

    def take(self, table: QualifiedName | None) -> Chunk | None:
        """Take a chunk of `table` to who was at that one, else of a table that nobody is at.

        Several at one table are in one another's way, in its indexes: so that comes last.
        """
        chunks = None if table is None else self._tables[table]
        if not chunks and self._untouched:
            chunks = self._tables[self._untouched.popleft()]
        if not chunks:
            chunks = max(self._tables.values(), key=len)
        return chunks.popleft() if chunks else None


class Workers:
    """Pairs of sessions; each is opened when there is a chunk for it, and stays until the end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()
        self._pairs: dict[int, Sessions] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def copy(
        self,
        chunks: Sequence[Chunk],
        snapshot: str,
        layout: Layout,
        *,
        rows: Mapping[QualifiedName, CopyRow],
        checkpoint: Checkpoint,
        count: Count,
    ) -> None:
        """Copy chunks until none is left or ROUND_S is over."""
        left = _Left(chunks)
        until = monotonic() + ROUND_S

        async def work(number: int) -> None:
            sessions = await self._pair(number)
            source = sessions.source
            async with source.transaction():
                await source.execute("set transaction isolation level repeatable read, read only")
                await source.execute(
                    sql.SQL("set transaction snapshot {}").format(sql.Literal(snapshot))
                )
                chunk = left.take(None)
                while chunk is not None:
                    table, row = layout.tables[chunk.table], rows[chunk.table]
                    await copy_chunk(
                        sessions, chunk, table, row, checkpoint=checkpoint, count=count
                    )
                    chunk = left.take(chunk.table) if monotonic() < until else None

        try:
            async with asyncio.TaskGroup() as tasks:
                # Where foreign keys hold, a row comes after the one that it refers to.
                most = 1 if layout.enforced else self._settings.snapshot.workers
                for number in range(min(most, len(chunks))):
                    tasks.create_task(work(number))
        except BaseExceptionGroup as group:
            raise first_error(group) from None

    async def _pair(self, number: int) -> Sessions:
        if number not in self._pairs:
            settings = self._settings
            source = await self._stack.enter_async_context(
                await connect(settings.source.require_dsn(), application_name="cdc copy")
            )
            target = await self._stack.enter_async_context(
                await connect_for_rows(settings.target.require_dsn(), application_name="cdc copy")
            )
            await join_copiers(target, settings.source.slot)
            self._pairs[number] = Sessions(source, target)
        return self._pairs[number]

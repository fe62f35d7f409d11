"""Copies tables while the stream runs: chunk by chunk, each as of one LSN, written at that LSN.

A round copies chunks for a few seconds:

    source   temporary slot: a snapshot, and the LSN that it shows the source at
    stream   goes on to that LSN and stands still (`sync.hold`); the checkpoint is moved there
    chunks   several connections: read under the snapshot, write, mark; each its own transaction
    stream   goes on

So what is copied is exact at each checkpoint, and changes of it are applied as always: no row is
ever compared with the stream, and a table needs no key. Between rounds nothing is held: neither
snapshot nor slot. Cut off at any moment, the copy goes on with the chunks that have no mark.

When all chunks are there, shadows are merged and foreign keys put back, in one transaction at the
same place of the stream.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import TypeAlias

from cdc.changes.copies import Copies, QualifiedName, Stage
from cdc.errors import CheckFailed
from cdc.postgres.session import Connection, connect, connect_replication
from cdc.progress import CopyProgress
from cdc.settings import Settings
from cdc.source.copied import load_copied_tables
from cdc.source.slot import emit_barrier
from cdc.sync.hold import Hold
from cdc.sync.layout import Layout, begin_copies, complete_copies, load_layout
from cdc.sync.snapshot import stand_at_snapshot
from cdc.sync.start import asking_target
from cdc.sync.workers import Workers
from cdc.target.apply import Target
from cdc.target.chunks import load_chunks
from cdc.target.connection import connect_target
from cdc.target.copies import (
    CopyRow,
    follow_renames,
    load_copies,
    request_anew,
    request_copies,
    require_ours,
)
from cdc.target.shadow import outgrown
from cdc.target.sole import join_copiers

log = logging.getLogger(__name__)

Report: TypeAlias = Callable[[CopyProgress], None]


class Copier:
    """Copies what is to be copied, for one slot, beside one stream."""

    def __init__(
        self, settings: Settings, target: Target, copies: Copies, hold: Hold, report: Report
    ) -> None:
        self._settings = settings
        self._target = target
        self._copies = copies
        self._hold = hold
        self._report = report
        self._progress = CopyProgress()
        self._wanted = asyncio.Event()
        copies.noticed = self._wanted.set
        if copies.pending:
            self._wanted.set()

    @property
    def copies(self) -> Copies:
        """Those under way, and those that are complete."""
        return self._copies

    @property
    def _slot(self) -> str:
        return self._settings.source.slot

    def ask(self) -> None:
        """Look whether there is something to copy; in the next turn, if this one is cut off."""
        self._copies.asked = True
        self._wanted.set()

    def heed(self, published: Iterable[QualifiedName]) -> None:
        """Copy those of the published tables that nobody has heard of."""
        new = [name for name in published if not self._copies.knows(name)]
        for name in new:
            self._copies.request(name)
        if new or self._copies.postponed:
            self.ask()

    async def run(self) -> None:
        """Copy whenever something is to be copied, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            source_dsn = self._settings.source.require_dsn()
            target_dsn = self._settings.target.require_dsn()
            with asking_target():
                there = await connect_target(target_dsn, application_name="cdc copy")
            async with (
                there as target,
                await connect(source_dsn, application_name="cdc copy") as source,
            ):
                await join_copiers(target, self._slot)
                await self._copy(source, target)

    async def _copy(self, source: Connection, target: Connection) -> None:
        """Copy all that is to be copied by now."""
        async with Workers(self._settings) as workers:
            while True:
                self._copies.asked = False
                try:
                    await self._begin(source, target)
                except BaseException:
                    self._copies.asked = True
                    raise
                if not self._copies.pending:
                    break
                await self._round(source, target, workers)
        await emit_barrier(source)  # whoever waits for the copies hears of their end

    async def _begin(self, source: Connection, target: Connection) -> None:
        """Note what is to be copied, and cut it into chunks."""
        copied = await load_copied_tables(source, self._settings.source)
        assert copied is not None, "there is a stream, so there is a publication"
        published = {table.qualified_name for table in copied.tables}
        await follow_renames(target, self._slot)
        # What has come of them lacks a column, or has one too many: their copies begin anew.
        await request_anew(target, self._slot, await outgrown(target, self._slot), gap=True)
        rows = {row.name: row for row in await load_copies(target, self._slot)}
        for name in published:
            if name not in rows or not (rows[name].completed or rows[name].live):
                self._copies.request(name)
        self._copies.complete([row.name for row in rows.values() if row.live])
        # One that was dropped meanwhile is asked for in vain.
        self._copies.mending = {
            row.name
            for row in rows.values()
            if row.live and not row.completed and row.name in published
        }
        for name in [name for name in self._copies.under_way if name not in published]:
            self._copies.forget(name)
        await request_copies(target, self._slot, sorted(self._copies.under_way.keys() - rows))
        noted = await load_copies(target, self._slot)
        if not all(row.begun or row.completed for row in noted):
            layout = await self._load_layout(source, target)
            self._leave_out(layout)
            await begin_copies(source, target, self._slot, layout, noted)
            noted = await load_copies(target, self._slot)
        await self._target.look_at_ledger(target)
        self._note(noted)

    async def _load_layout(self, source: Connection, target: Connection) -> Layout:
        names = self._copies.under_way.keys() | self._copies.mending
        return await load_layout(source, target, self._settings, names)

    def _leave_out(self, layout: Layout) -> None:
        """Let tables that the target lacks wait; raise CheckFailed where none may."""
        for schema, name in layout.missing:
            if self._settings.apply.on_error != "quarantine":
                raise CheckFailed(
                    f"the source has a table {schema}.{name}, the target has not",
                    hint=f"create {schema}.{name} on the target as it is on the source; the daemon"
                    " then copies it",
                )
            if (schema, name) not in self._copies.postponed:
                log.warning("the target lacks a table", extra={"relation": f"{schema}.{name}"})
        self._copies.postponed = set(layout.missing)

    async def _round(self, source: Connection, target: Connection, workers: Workers) -> None:
        """Copy chunks for a while at one place of the stream; at the end, merge."""
        replication = await connect_replication(
            self._settings.source.require_dsn(), application_name="cdc copy"
        )
        try:
            await self._hold.take()
            plugin = self._settings.source.plugin
            snapshot = await stand_at_snapshot(source, replication, self._hold, plugin=plugin)
            # Not older than the snapshot: a column that came since is in what is copied.
            layout = await self._load_layout(source, target)
            self._leave_out(layout)
            estimates = [table.source.estimated_rows for table in layout.tables.values()]
            self._progress.estimated_rows = sum(estimates)
            if not await outgrown(target, self._slot):
                await self._copy_chunks(target, workers, snapshot.name, layout)
                self._note(await load_copies(target, self._slot))
                await self._complete(target, layout)
        finally:
            await replication.close()
        # What failed has left chunks that nobody here has noted: then the stream must not go on.
        self._hold.release()

    async def _copy_chunks(
        self, target: Connection, workers: Workers, snapshot: str, layout: Layout
    ) -> None:
        rows = await load_copies(target, self._slot)
        rank = {name: n for n, name in enumerate(layout.in_order)}
        chunks = [c for c in await load_chunks(target, self._slot) if c.table in rank]
        await workers.copy(
            sorted(chunks, key=lambda chunk: (rank[chunk.table], chunk.number)),
            snapshot,
            layout,
            rows={row.name: row for row in rows},
            checkpoint=self._target.checkpoint,
            count=self._count,
        )

    async def _complete(self, target: Connection, layout: Layout) -> None:
        """Where all chunks are there, let the tables have their rows, and foreign keys back."""
        async with target.transaction():
            await require_ours(target, self._target.checkpoint)
            # From here on nobody asks for a copy anew.
            await target.execute("lock table cdc.copy in share row exclusive mode")
            rows = await load_copies(target, self._slot)
            done = [row for row in rows if row.name in layout.tables and not row.completed]
            if not all(row.stage is Stage.WHOLE for row in done):
                return
            await complete_copies(target, self._slot, layout, done)
        self._copies.complete(row.name for row in done)
        self._progress.tables_done = self._progress.tables
        self._progress.complete = True
        self._report(self._progress)
        await self._target.look_at_ledger(target)

    def _note(self, rows: list[CopyRow]) -> None:
        """Let the copies and the progress be as the target has them."""
        due = (self._copies.under_way.keys() | self._copies.mending) - self._copies.postponed
        under_way = [row for row in rows if not row.completed and row.name in due]
        for row in under_way:
            if (copy := self._copies.under_way.get(row.name)) is not None:
                copy.destination, copy.stage = row.destination, row.stage
        progress = self._progress
        progress.complete = False
        progress.tables = len(under_way)
        progress.tables_done = sum(row.stage is Stage.WHOLE for row in under_way)
        progress.chunks = sum(row.chunks for row in under_way)
        progress.chunks_done = sum(row.chunks_copied for row in under_way)
        progress.rows = sum(row.rows for row in under_way)
        progress.bytes = sum(row.bytes for row in under_way)
        self._report(progress)

    def _count(self, rows: int, size: int) -> None:
        self._progress.rows += rows
        self._progress.bytes += size
        self._report(self._progress)

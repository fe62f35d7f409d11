"""From two databases to a stream that can start: publication, slot, snapshot, checkpoint.

    bookkeeping ─► publication ─► checkpoint row, LSN open ─► slot
                ─► checkpoint = the slot's consistent point, all tables to be copied

Safe to repeat. The row with an open LSN says that a slot of ours is being made: whoever finds it
may drop the slot and make another. Without such a row, a slot or rows that are there belong to
somebody else and are not touched. The copy itself is made while the stream runs (`sync.copier`).
"""

import logging
from dataclasses import dataclass

from psycopg import sql

from cdc.errors import CheckFailed, SlotBusy
from cdc.lsn import Lsn
from cdc.postgres.catalog_reader import load_catalog
from cdc.postgres.patience import Waiting, patience
from cdc.postgres.session import Connection, connect
from cdc.settings import Settings
from cdc.source.copied import CopiedTables, load_copied_tables
from cdc.source.publication import create_publication
from cdc.source.slot import create_slot, drop_slot, load_slot, tell_oldest_writer
from cdc.source.stream import ReplicationStream
from cdc.sync.position import check_identity
from cdc.sync.spool import choice
from cdc.sync.start import identify
from cdc.target.checkpoint import (
    Checkpoint,
    SlotIdentity,
    add_bookkeeping,
    begin_slot,
    begin_stream,
    bring_up_to_date,
    load_checkpoint,
    require_copy,
)
from cdc.target.connection import connect_target
from cdc.target.copies import request_anew, request_copies, take_over
from cdc.target.tables import prepare_tables

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Pair:
    """The sessions of an initialization, and what is known of both sides."""

    settings: Settings
    source: Connection
    target: Connection
    stream: ReplicationStream

    @property
    def slot(self) -> str:
        return self.settings.source.slot

    @property
    def identity(self) -> SlotIdentity:
        return identify(self.stream, self.settings)


async def initialize(settings: Settings, *, snapshot: bool) -> Checkpoint:
    """Make the pair ready to stream and return its checkpoint; do only what is still missing.

    Without `snapshot` the target is taken to hold the source's rows already. Raises Unavailable
    where somebody keeps a table locked.
    """
    source_dsn, target_dsn = settings.source.require_dsn(), settings.target.require_dsn()
    async with await connect(source_dsn) as source, await connect_target(target_dsn) as target:
        stream = await ReplicationStream.connect(source_dsn)
        try:
            async with patience(
                Waiting("source", source, source_dsn), Waiting("target", target, target_dsn)
            ):
                return await _initialize(_Pair(settings, source, target, stream), snapshot=snapshot)
        finally:
            await stream.close()


async def _initialize(pair: _Pair, *, snapshot: bool) -> Checkpoint:
    await _lock(pair)
    checkpoint = await load_checkpoint(pair.target, pair.slot)
    require_copy(checkpoint)
    if checkpoint is not None and checkpoint.lsn is not None:
        check_identity(checkpoint, pair.identity)
        await _bring_up_to_date(pair)
        return checkpoint
    copied = await ensure_tables(pair.source, pair.settings)
    await _clear_slot(pair, checkpoint, keep=not snapshot)
    if snapshot and checkpoint is None:
        await _refuse_rows(pair, copied)
    await add_bookkeeping(pair.target)
    await begin_slot(pair.target, pair.identity)
    await _prepare(pair, copied)
    lsn = await (_make_slot(pair) if snapshot else _take_slot(pair))
    names = [table.qualified_name for table in copied.tables]
    async with pair.target.transaction():
        if snapshot:
            if checkpoint is None:
                await request_copies(pair.target, pair.slot, names)
            else:  # a copy that was cut off, or is said to be
                await request_anew(pair.target, pair.slot, names, gap=True)
        else:
            await take_over(pair.target, pair.slot, names)
        await begin_stream(pair.target, pair.slot, lsn)
    checkpoint = await load_checkpoint(pair.target, pair.slot)
    assert checkpoint is not None
    return checkpoint


async def _bring_up_to_date(pair: _Pair) -> None:
    """Add what is new since the target was initialized."""
    copied = await load_copied_tables(pair.source, pair.settings.source)
    async with pair.target.transaction():
        if await bring_up_to_date(pair.target) and copied is not None:
            await take_over(pair.target, pair.slot, [t.qualified_name for t in copied.tables])
    if copied is not None:
        await _prepare(pair, copied)


async def _prepare(pair: _Pair, copied: CopiedTables) -> None:
    """Make the target's tables take rows as they are."""
    catalog = await load_catalog(pair.target, pair.settings.source.schemas)
    names = [table.qualified_name for table in copied.tables]
    await prepare_tables(pair.target, pair.slot, catalog, names)


async def _lock(pair: _Pair) -> None:
    """Let nobody else initialize the same slot; the session's end gives the lock back."""
    cursor = await pair.target.execute(
        "select pg_try_advisory_lock(hashtextextended('cdc init ' || %s, 0))", (pair.slot,)
    )
    row = await cursor.fetchone()
    if row is None or not row[0]:
        raise SlotBusy(
            f"another process is initializing slot {pair.slot}",
            hint="wait for it, or stop it: `select * from pg_locks where locktype = 'advisory'`"
            " on the target names it",
        )


async def ensure_tables(source: Connection, settings: Settings) -> CopiedTables:
    """Return the tables to copy; create the publication that says so where it is missing."""
    copied = await load_copied_tables(source, settings.source)
    if copied is None:
        tables = await load_catalog(source, settings.source.schemas)
        await create_publication(
            source, settings.source.publication, settings.source.schemas, list(tables.tables)
        )
        copied = await load_copied_tables(source, settings.source)
        assert copied is not None
    return copied


async def _clear_slot(pair: _Pair, checkpoint: Checkpoint | None, *, keep: bool) -> None:
    """Drop the slot of a copy that was cut off; refuse one that is not ours."""
    slot = await load_slot(pair.source, pair.slot)
    if slot is None or (keep and slot.plugin == pair.settings.source.plugin and not slot.active):
        return
    if checkpoint is None:
        raise CheckFailed(
            f"slot {pair.slot} exists, and the target has no checkpoint for it",
            hint="if it is left over: `cdc slot drop`; if the target already holds the source's"
            " rows as of that slot: `cdc init --no-snapshot`; else choose CDC_SOURCE_SLOT",
        )
    await drop_slot(pair.source, pair.slot)


async def _refuse_rows(pair: _Pair, copied: CopiedTables) -> None:
    """Raise CheckFailed where a table has rows already: they belong to somebody else."""
    for table in copied.tables:
        name = sql.Identifier(table.schema, table.name)
        cursor = await pair.target.execute(sql.SQL("select exists (select from {})").format(name))
        row = await cursor.fetchone()
        if row is not None and row[0]:
            shown = f"{table.schema}.{table.name}"
            raise CheckFailed(
                f"{shown} has rows on the target already",
                hint=f"truncate {shown} on the target if they may go; if the target already holds"
                " the source's rows: `cdc init --no-snapshot`",
            )


async def _make_slot(pair: _Pair) -> Lsn:
    """Create the slot, and return where its stream begins."""
    await tell_oldest_writer(pair.source)
    choice.discard(pair.settings, pair.identity)
    created = await create_slot(
        pair.stream.connection, pair.slot, plugin=pair.settings.source.plugin
    )
    return created.consistent_point


async def _take_slot(pair: _Pair) -> Lsn:
    """Return where the stream begins: at the slot that is there, or at one created now."""
    slot = await load_slot(pair.source, pair.slot)
    if slot is not None and slot.confirmed is not None:
        return slot.confirmed
    return await _make_slot(pair)

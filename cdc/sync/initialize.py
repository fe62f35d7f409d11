"""From two databases to a stream that can start: publication, slot, snapshot, checkpoint.

    bookkeeping ─► publication ─► checkpoint row, LSN open ─► slot + exported snapshot
                ─► copy ─► checkpoint = the slot's consistent point

Safe to repeat. The row with an open LSN says that a copy of ours is under way: whoever finds it
may drop the slot, empty the tables that the copy had filled, and begin again. Without such a row, a
slot or rows that are there belong to somebody else and are not touched.
"""

import logging
from dataclasses import dataclass

from psycopg import sql

from cdc.errors import CheckFailed, SlotBusy
from cdc.lsn import Lsn
from cdc.postgres.catalog import Catalog
from cdc.postgres.catalog_reader import load_catalog
from cdc.postgres.session import Connection, connect
from cdc.settings import Settings
from cdc.source.copied import CopiedTables, load_copied_tables
from cdc.source.publication import create_publication
from cdc.source.slot import create_slot, drop_slot, load_slot
from cdc.source.stream import ReplicationStream
from cdc.sync.position import check_identity
from cdc.sync.snapshot import Endpoints, Report, copy_snapshot
from cdc.sync.spool import choice
from cdc.sync.start import identify
from cdc.target.checkpoint import (
    Checkpoint,
    SlotIdentity,
    add_bookkeeping,
    begin_snapshot,
    bring_up_to_date,
    complete_snapshot,
    load_checkpoint,
)
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


async def initialize(settings: Settings, *, snapshot: bool, report: Report) -> Checkpoint:
    """Make the pair ready to stream and return its checkpoint; do only what is still missing.

    Without `snapshot` the target is taken to hold the source's rows already.
    """
    source_dsn, target_dsn = settings.source.require_dsn(), settings.target.require_dsn()
    async with await connect(source_dsn) as source, await connect(target_dsn) as target:
        stream = await ReplicationStream.connect(source_dsn)
        try:
            pair = _Pair(settings, source, target, stream)
            return await _initialize(pair, snapshot=snapshot, report=report)
        finally:
            await stream.close()


async def _initialize(pair: _Pair, *, snapshot: bool, report: Report) -> Checkpoint:
    await _lock(pair)
    checkpoint = await load_checkpoint(pair.target, pair.slot)
    if checkpoint is not None and checkpoint.lsn is not None:
        check_identity(checkpoint, pair.identity)
        await bring_up_to_date(pair.target)
        copied = await load_copied_tables(pair.source, pair.settings.source)
        if copied is not None:
            await _prepare(pair, copied)
        return checkpoint
    source = await load_catalog(pair.source, pair.settings.source.schemas)
    copied = await ensure_tables(pair.source, pair.settings)
    await _clear_slot(pair, checkpoint, keep=not snapshot)
    await add_bookkeeping(pair.target)
    if snapshot:
        await _clear_tables(pair, copied)
    await begin_snapshot(pair.target, pair.identity)
    target = await _prepare(pair, copied)
    if snapshot:
        lsn = await _copy(pair, copied, source, target, report)
    else:
        lsn = await _take_slot(pair)
    await complete_snapshot(pair.target, pair.slot, lsn)
    checkpoint = await load_checkpoint(pair.target, pair.slot)
    assert checkpoint is not None
    return checkpoint


async def _prepare(pair: _Pair, copied: CopiedTables) -> Catalog:
    """Make the target's tables take rows as they are; return what they were like before."""
    catalog = await load_catalog(pair.target, pair.settings.source.schemas)
    names = [table.qualified_name for table in copied.tables]
    await prepare_tables(pair.target, pair.slot, catalog, names)
    return catalog


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


async def _clear_tables(pair: _Pair, copied: CopiedTables) -> None:
    """Empty what a copy that was cut off had filled; refuse tables with rows of somebody else."""
    cursor = await pair.target.execute(
        "select relation from cdc.snapshot_chunk where slot = %s", (pair.slot,)
    )
    ours = {str(row[0]) for row in await cursor.fetchall()}
    names = {f"{t.schema}.{t.name}": sql.Identifier(t.schema, t.name) for t in copied.tables}
    for name, table in names.items():
        cursor = await pair.target.execute(sql.SQL("select exists (select from {})").format(table))
        row = await cursor.fetchone()
        if row is not None and row[0] and name not in ours:
            raise CheckFailed(
                f"{name} has rows on the target already",
                hint=f"truncate {name} on the target if they may go; if the target already holds"
                " the source's rows: `cdc init --no-snapshot`",
            )
    async with pair.target.transaction():
        if ours & names.keys():
            tables = sql.SQL(", ").join(names.values())
            await pair.target.execute(sql.SQL("truncate {}").format(tables))
        await pair.target.execute("delete from cdc.snapshot_chunk where slot = %s", (pair.slot,))


async def _tell_who_is_waited_for(source: Connection) -> None:
    """Say why the slot is not there yet: it waits for transactions that are writing already."""
    cursor = await source.execute(
        "select pid, application_name, extract(epoch from now() - xact_start)::int"
        " from pg_stat_activity where backend_xid is not null and pid <> pg_backend_pid()"
        " order by xact_start limit 1"
    )
    row = await cursor.fetchone()
    if row is not None:
        pid, name, age_s = row
        log.info(
            "creating the slot, which waits for transactions that are writing now",
            extra={"oldest_pid": pid, "oldest_application": name, "oldest_age_s": age_s},
        )


async def _copy(
    pair: _Pair, copied: CopiedTables, source: Catalog, target: Catalog, report: Report
) -> Lsn:
    await _tell_who_is_waited_for(pair.source)
    choice.discard(pair.settings, pair.identity)
    created = await create_slot(
        pair.stream.connection, pair.slot, plugin=pair.settings.source.plugin, snapshot="export"
    )
    assert created.snapshot is not None
    endpoints = Endpoints(
        pair.settings.source.require_dsn(),
        pair.settings.target.require_dsn(),
        created.snapshot,
        pair.slot,
    )
    await copy_snapshot(
        endpoints,
        copied,
        source,
        target,
        workers=pair.settings.snapshot.workers,
        report=report,
    )
    return created.consistent_point


async def _take_slot(pair: _Pair) -> Lsn:
    """Return where the stream begins: at the slot that is there, or at one created now."""
    slot = await load_slot(pair.source, pair.slot)
    if slot is not None and slot.confirmed is not None:
        return slot.confirmed
    choice.discard(pair.settings, pair.identity)
    created = await create_slot(
        pair.stream.connection, pair.slot, plugin=pair.settings.source.plugin, snapshot="nothing"
    )
    return created.consistent_point

"""Begins anew where the slot is lost or a side was restored, if the operator wants that.

    new slot ─► checkpoint = its consistent point, of this server; every table to be copied again

All that was is left as it is until the new copies take its place (`sync.copier`): the target stays
readable. The ledger has had the gap since it was found; it is closed when the copies are complete.
Cut off in between, the next start finds the position lost again, and begins here again.
"""

import logging

import psycopg

from cdc.backoff import described
from cdc.errors import CdcError, PositionLost
from cdc.lsn import Lsn, format_lsn
from cdc.postgres.session import connect
from cdc.settings import Settings
from cdc.source.slot import create_slot, drop_slot, load_slot, tell_oldest_writer
from cdc.source.stream import ReplicationStream
from cdc.sync.initialize import ensure_tables
from cdc.sync.spool import choice
from cdc.sync.start import identify
from cdc.target.checkpoint import load_checkpoint, renew_checkpoint, require_copy
from cdc.target.connection import connect_target
from cdc.target.copies import request_anew
from cdc.target.ledger import record_gap

log = logging.getLogger(__name__)


async def renew(settings: Settings, lost: PositionLost) -> None:
    """Make a new slot in place of the one that is lost, and ask for new copies of all tables."""
    source_dsn, target_dsn = settings.source.require_dsn(), settings.target.require_dsn()
    slot = settings.source.slot
    async with await connect(source_dsn) as source, await connect_target(target_dsn) as target:
        before = await load_checkpoint(target, slot)
        require_copy(before)
        stream = await ReplicationStream.connect(source_dsn)
        try:
            copied = await ensure_tables(source, settings)
            if await load_slot(source, slot) is not None:
                await drop_slot(source, slot)
            await tell_oldest_writer(source)
            choice.discard(settings, identify(stream, settings))
            created = await create_slot(stream.connection, slot, plugin=settings.source.plugin)
            identity = identify(stream, settings)
        finally:
            await stream.close()
        at: Lsn | None = None if before is None else before.lsn
        async with target.transaction():
            until = created.consistent_point
            await record_gap(target, slot, lost.message, after=at, until=until)
            await renew_checkpoint(target, identity, created.consistent_point)
            names = [table.qualified_name for table in copied.tables]
            await request_anew(target, slot, names, gap=True)
    log.warning(
        "changes may be missing on the target: all tables are copied again",
        extra={
            "reason": lost.message,
            "from": None if at is None else format_lsn(at),
            "to": format_lsn(created.consistent_point),
        },
    )


async def record_loss(settings: Settings, lost: PositionLost) -> None:
    """Put a gap into the ledger, unless it is open there; not where the target is away."""
    slot = settings.source.slot
    try:
        async with await connect_target(settings.target.require_dsn()) as target:
            checkpoint = await load_checkpoint(target, slot)
            at = None if checkpoint is None else checkpoint.lsn
            if at is not None:
                await record_gap(target, slot, lost.message, after=at, until=None)
    except (psycopg.Error, CdcError, OSError) as ex:
        log.warning("the ledger cannot be written to", extra={"error": described(ex)})

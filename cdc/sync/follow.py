"""A command with an end beside a daemon that streams: the daemon does it, the command waits for it.

    source   the slot is in use: we say that we wait for who has it
    target   the checkpoint has come to the LSN, and nothing is to be copied any more: done

The checkpoint alone proves it: what the source was told that it may forget can lie in a spool. An
idle daemon leaves the checkpoint where it is, unless somebody waits for it (`sync.standby`).
"""

import asyncio
import logging
from time import monotonic

from cdc.lsn import INVALID, Lsn, format_lsn
from cdc.postgres.session import Connection
from cdc.settings import Settings
from cdc.source.lease import POLL_S, following, held_by_another
from cdc.source.slot import Slot, busy
from cdc.sync.start import asking_target
from cdc.target.checkpoint import load_checkpoint
from cdc.target.connection import connect_target
from cdc.target.copies import count_due, load_copies

log = logging.getLogger(__name__)


async def done_by_another(
    source: Connection, settings: Settings, until: Lsn | None, *, patience_s: float
) -> bool:
    """Wait while another daemon streams; True: all up to `until` is copied. False: none does.

    Raises SlotBusy where it has not come any further for `patience_s`, and what it gathers for.
    """
    name = settings.source.slot
    slot = await held_by_another(source, name)
    if slot is None:
        return False
    log.warning(
        "another daemon streams: waiting until it is that far",
        extra={
            "reason": busy(name, slot).message,
            "until": None if until is None else format_lsn(until),
        },
    )
    with asking_target():
        target = await connect_target(settings.target.require_dsn())
    patience_s += settings.apply.flush_interval
    async with target, following(source, name):
        return await _wait(source, target, slot, until or INVALID, patience_s)


async def _wait(
    source: Connection, target: Connection, slot: Slot, until: Lsn, patience_s: float
) -> bool:
    moved, since = (INVALID, 0), monotonic()
    while True:
        with asking_target():
            checkpoint = await load_checkpoint(target, slot.name)
            copied = sum(copy.chunks_copied for copy in await load_copies(target, slot.name))
            due = await count_due(target, slot.name)
        at = INVALID if checkpoint is None or checkpoint.lsn is None else checkpoint.lsn
        if at >= until and not due:
            log.info("another daemon has done it", extra={"checkpoint": format_lsn(at)})
            return True
        if (at, copied) != moved:
            moved, since = (at, copied), monotonic()
        if await held_by_another(source, slot.name) is None:
            return False
        if monotonic() - since > patience_s:
            raise busy(slot.name, slot)
        await asyncio.sleep(POLL_S)

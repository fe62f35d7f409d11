"""Asks the source how much WAL is left before the slot is lost, and says so when it gets short."""

import logging
from time import monotonic

from cdc.budget import Level, WalBudget
from cdc.lsn import parse_lsn
from cdc.postgres.session import Connection
from cdc.source.slot import load_slot

log = logging.getLogger(__name__)


async def look(source: Connection, slot_name: str, budget: WalBudget) -> None:
    """Ask once; log each time that the budget passes 50 % and 80 %."""
    slot = await load_slot(source, slot_name)
    if slot is None:
        return
    budget.status = slot.wal_status
    lost = slot.wal_status == "lost"
    safe = 0 if lost else slot.safe_wal_bytes
    if not budget.look(monotonic(), parse_lsn(slot.source_lsn), slot.retained_wal_bytes, safe):
        return
    used, seconds = budget.used, budget.seconds_left
    log.log(
        logging.ERROR if budget.level is Level.ALARM else logging.WARNING,
        "the slot holds back much of the WAL that the source keeps for it; beyond that it is lost",
        extra={
            "slot": slot_name,
            "used_percent": None if used is None else round(100 * used),
            "retained_bytes": budget.retained_bytes,
            "bytes_left": budget.safe_bytes,
            "bytes_per_second": None if budget.rate is None else round(budget.rate),
            "seconds_left": None if seconds is None else round(seconds),
        },
    )

"""A line in the log now and then: the stream is alive, and how far it is."""

import asyncio
import logging
from time import monotonic

from cdc.lsn import format_lsn
from cdc.progress import Progress
from cdc.target.connection import AWAKE

log = logging.getLogger(__name__)

PROGRESS_INTERVAL_S = 60.0


def awake() -> dict[str, float]:
    """Return what this process has cost on a target that is billed by the second."""
    return {
        "target_wake_ups": AWAKE.wake_ups,
        "target_awake_s": round(AWAKE.seconds(monotonic()), 1),
    }


async def log_progress(progress: Progress) -> None:
    """Log until cancelled."""
    counts = progress.counts
    while True:
        await asyncio.sleep(PROGRESS_INTERVAL_S)
        log.info(
            "progress",
            extra={
                "received": format_lsn(progress.received),
                "applied": format_lsn(progress.applied),
                "confirmed": format_lsn(progress.confirmed),
                "transactions": counts.transactions,
                "changes": counts.changes,
                "batches": counts.batches,
                "replays": counts.replays,
                "repairs": counts.repairs,
                "spooled_bytes": progress.spooled_bytes,
                "spooled_transactions": progress.spooled_transactions,
                **awake(),
            },
        )

"""A snapshot of the source at one LSN, with the stream standing still just there.

    temporary slot   waits for transactions that are writing; a snapshot, and the LSN that it shows
    hold             the stream is let go on up to what that may be, then stands at what it is

So whoever imports the snapshot sees the source as the target is: all that was committed before the
LSN, and nothing else, until the hold is released. The snapshot can be imported as long as the
replication session does nothing else.
"""

import asyncio
from dataclasses import dataclass
from time import monotonic

from cdc.lsn import Lsn
from cdc.postgres.session import Connection
from cdc.source.slot import (
    CreatedSlot,
    create_temporary_slot,
    emit_barrier,
    tell_oldest_writer,
    wal_end,
)
from cdc.sync.hold import Hold

# While the slot waits for transactions that are writing, the stream is let go on so often.
_LET_GO_S = 0.2
_TELL_S = 2.0


@dataclass(slots=True, frozen=True)
class Snapshot:
    """An exported snapshot of the source."""

    name: str
    lsn: Lsn
    """It shows what was committed before this."""


async def stand_at_snapshot(
    source: Connection, replication: Connection, hold: Hold, *, plugin: str
) -> Snapshot:
    """Take a snapshot and return it when the target is at its LSN; `hold` has to be taken."""
    while True:
        created = await _create_slot(source, replication, hold, plugin)
        if hold.at(created.consistent_point, exact=True):
            break
        # The stream was faster than the snapshot.
    await emit_barrier(source)  # an idle source sends nothing that lies behind the bound
    await hold.reached()
    assert created.snapshot is not None
    return Snapshot(created.snapshot, created.consistent_point)


async def _create_slot(
    source: Connection, replication: Connection, hold: Hold, plugin: str
) -> CreatedSlot:
    """Create the slot; the stream stays behind what its snapshot may show."""
    creating = asyncio.ensure_future(create_temporary_slot(replication, plugin=plugin))
    told = monotonic() + _TELL_S
    try:
        while True:
            hold.at(await wal_end(source), exact=False)
            done, _ = await asyncio.wait({creating}, timeout=_LET_GO_S)
            if done:
                return creating.result()
            if monotonic() > told:
                told = float("inf")
                await tell_oldest_writer(source)
    finally:
        creating.cancel()
        await asyncio.wait({creating})  # the server is told: else it would keep the slot

"""Sets tables that differ to what the source has: the running daemon copies them again.

It compares them with the source at one place of the stream, and writes the rows that differ alone
(`cdc resync`). Whether they are equal then is for another verification to say.
"""

import asyncio
from collections.abc import Sequence
from time import monotonic

from cdc.assure.resync import request_resync
from cdc.assure.verify.watcher import Watcher
from cdc.errors import Unavailable
from cdc.postgres.ordering import QualifiedName
from cdc.postgres.session import connect
from cdc.settings import Settings
from cdc.source.slot import load_slot
from cdc.target.connection import connect_target
from cdc.target.copies import load_copies

_POLL_S = 0.5
_TELL_S = 2.0


async def repair(settings: Settings, names: Sequence[QualifiedName], watcher: Watcher) -> None:
    """Have tables copied again, and wait for it; raises Unavailable where the daemon is gone."""
    await request_resync(settings, names)
    told = monotonic()
    async with (
        await connect(settings.source.require_dsn()) as source,
        await connect_target(settings.target.require_dsn()) as target,
    ):
        while True:
            rows = await load_copies(target, settings.source.slot)
            left = [row for row in rows if row.name in names and not row.completed]
            if not left:
                return
            if monotonic() - told > _TELL_S:
                told = monotonic()
                slot = await load_slot(source, settings.source.slot)
                if slot is None or not slot.active:
                    raise Unavailable(
                        "the daemon has stopped before all was repaired",
                        hint="start `cdc run`: it goes on with it; then run `cdc verify` again",
                    )
                shown = ", ".join(f"{row.table_schema}.{row.table_name}" for row in left[:5])
                watcher.wait_for(f"waiting for the daemon to repair {shown}")
            await asyncio.sleep(_POLL_S)

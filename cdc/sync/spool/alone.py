"""What is queued goes to the target though the source is away: it may be gone for good.

Then the spool has the last changes that there are. Who replays them holds no slot, and so no lease;
but while they are not on the target, no other daemon can stream: its position would not fit.
"""

import asyncio
import logging

from cdc.counts import Counts
from cdc.errors import Unavailable
from cdc.progress import Progress
from cdc.settings import Settings
from cdc.sync.decoding import Decoding
from cdc.sync.feedback import STATUS_INTERVAL_S
from cdc.sync.limits import Limits
from cdc.sync.pipeline import Pipeline
from cdc.sync.position import IdleFile, check_spool
from cdc.sync.spool import choice
from cdc.sync.spool.replay import Replay
from cdc.sync.spool.store import Store
from cdc.sync.spool.thread import OneThread
from cdc.target.apply import Target
from cdc.target.checkpoint import load_checkpoint
from cdc.target.connection import connect_target
from cdc.target.copies import load_copies, mirror

log = logging.getLogger(__name__)


async def replay_alone(target: Target, settings: Settings, limits: Limits, counts: Counts) -> None:
    """Apply what is queued, if anything is; leaves the target alone if not."""
    for store in choice.stores(settings):
        try:
            if not store.empty:
                await _replay(store, target, settings, limits, counts)
        finally:
            store.close()


async def _replay(
    store: Store, target: Target, settings: Settings, limits: Limits, counts: Counts
) -> None:
    identity, held = store.identity, store.held
    idle_file = IdleFile(settings.state_dir, identity)
    async with await connect_target(settings.target.require_dsn()) as session:
        checkpoint = await load_checkpoint(session, identity.slot)
        copies = mirror(await load_copies(session, identity.slot))
    if checkpoint is None or checkpoint.identity != identity:
        return  # the spool of another server, or of an older timeline
    at = checkpoint.lsn
    if at is None:
        return
    if at >= held.upto:
        store.clear(at)
        return
    check_spool(checkpoint, idle_file.load(), held)
    claimed = await target.open()
    if claimed.lsn != at:
        raise Unavailable("the checkpoint moved while the spool was looked at")
    log.warning(
        "the source is away: what is queued is applied all the same",
        extra={"bytes": store.size, "transactions": store.transactions},
    )
    thread = OneThread()
    try:
        replay = Replay(store, thread, asyncio.Event())
        replay.end()
        pipeline = Pipeline(
            replay,
            Decoding(),
            target,
            Progress(at, at, at, counts=counts),
            idle_file,
            copies=copies,
            settings=settings,
            limits=Limits(held.upto, limits.patience_s, away_s=limits.away_s),
        )
        await pipeline.run(status_interval_s=STATUS_INTERVAL_S)
    finally:
        thread.close()
    assert target.checkpoint.lsn is not None
    store.forget(store.last, target.checkpoint.lsn)
    log.info("all that was queued is applied")

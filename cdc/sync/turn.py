"""The beginning of a turn: straight to the target, or by way of the spool; and who conducts it.

By way of the spool while there is something in it, and after the target was found away.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from cdc.changes.copies import Copies
from cdc.lsn import Lsn, format_lsn
from cdc.postgres.session import Connection, connect
from cdc.progress import Progress
from cdc.settings import Settings
from cdc.source.slot import RESYNC, VERIFY, load_slot, wal_end
from cdc.source.stream import ReplicationStream
from cdc.sync.copier import Copier, Report
from cdc.sync.decoding import Decoding, open_decoding
from cdc.sync.feedback import status_interval
from cdc.sync.hold import Hold
from cdc.sync.limits import Limits
from cdc.sync.lookout import Lookout
from cdc.sync.pipeline import Pipeline
from cdc.sync.position import IdleFile
from cdc.sync.report import log_progress
from cdc.sync.spool import choice
from cdc.sync.spool.spooling import Spooling, start_spooling
from cdc.sync.spool.store import Store
from cdc.sync.start import identify, start_stream
from cdc.sync.vantage import Vantage
from cdc.target.apply import Target
from cdc.tasks import first_error
from cdc.vitals import Vitals

log = logging.getLogger(__name__)


Conductor: TypeAlias = Pipeline | Spooling


@dataclass(slots=True)
class Turn:
    """A stream that has started."""

    conductor: Conductor
    progress: Progress
    status_interval_s: float
    copier: Copier | None
    """Who copies tables beside it. None: it goes by way of the spool, and when it ends, that is
    empty and a straight turn is due."""
    lookout: Lookout
    vantage: Vantage | None
    """Who lets both sides be compared; None: by way of the spool that cannot be."""

    async def run(self) -> None:
        """Stream to the end, with all that goes on beside; an exception comes out as it is."""
        try:
            async with asyncio.TaskGroup() as tasks:
                beside = [
                    tasks.create_task(self.lookout.run()),
                    tasks.create_task(log_progress(self.progress)),
                ]
                if self.copier is not None:
                    beside.append(tasks.create_task(self.copier.run()))
                if self.vantage is not None:
                    beside.append(tasks.create_task(self.vantage.run()))
                await self.conductor.run(status_interval_s=self.status_interval_s)
                for task in beside:
                    task.cancel()
        except BaseExceptionGroup as group:
            raise first_error(group) from group


@dataclass(slots=True)
class Sides:
    """Whom a turn connects."""

    source: Connection
    stream: ReplicationStream
    target: Target
    vitals: Vitals
    """What outlives the turn and is reported."""


@dataclass(slots=True)
class Copying:
    """What is copied beside a stream."""

    load: Callable[[], Awaitable[Copies]]
    """Asks the target which copies are under way."""
    report: Report


@asynccontextmanager
async def begin_turn(
    sides: Sides,
    settings: Settings,
    limits: Limits,
    copying: Copying,
    *,
    away: bool,
    unready: Exception | None,
) -> AsyncIterator[Turn]:
    """Start the stream.

    `unready` is what stood in the way of preparing both sides: a turn by way of the spool may not
    mind, since it can be that the target is away; any other turn raises it.
    """
    identity = identify(sides.stream, settings)
    idle_file = IdleFile(settings.state_dir, identity)
    idle_file.require_writable()
    slot = await load_slot(sides.source, identity.slot)
    store = choice.open_spool(settings, identity)
    try:
        if store is not None and choice.by_spool(
            store, slot, settings, away=away or unready is not None
        ):
            yield await _by_spool(sides, settings, limits, copying, store)
        elif unready is not None:
            raise unready
        else:
            async with open_decoding(settings) as decoding:
                yield await _straight(sides, settings, limits, copying, store, decoding=decoding)
    finally:
        if store is not None:
            store.close()


async def _straight(
    sides: Sides,
    settings: Settings,
    limits: Limits,
    copying: Copying,
    store: Store | None,
    *,
    decoding: Decoding,
) -> Turn:
    stream, source, target = sides.stream, sides.source, sides.target
    idle_file = IdleFile(settings.state_dir, identify(stream, settings))
    interval_s = await status_interval(stream)
    held = None if store is None else store.held
    progress = await start_stream(stream, source, target, idle_file, settings, held=held)
    progress.counts, progress.heartbeat = sides.vitals.counts, sides.vitals.heartbeat
    progress.heartbeat.forget()
    copies = await copying.load()  # not before the claim: somebody else may have copied until then
    choice.leave_empty(store, settings, identify(stream, settings), progress.applied)
    log.info(
        "streaming",
        extra={
            "slot": settings.source.slot,
            "from": format_lsn(progress.applied),
            "server": stream.system.system_identifier,
        },
    )
    hold = Hold()
    copier = Copier(settings, target, copies, hold, copying.report)

    def hear(message: bytes) -> None:
        if message == RESYNC:
            copier.ask()
        elif message == VERIFY:
            lookout.rouse()

    pipeline = Pipeline(
        stream,
        decoding,
        target,
        progress,
        idle_file,
        copies=copies,
        hold=hold,
        settings=settings,
        limits=limits,
        heard=hear,
        wal_end=partial(_wal_end, settings),
    )
    vantage = Vantage(settings, hold, sides.vitals.verifications)
    lookout = Lookout(
        source,
        settings,
        sides.vitals,
        progress=progress,
        copier=copier,
        standby=pipeline.standby,
        vantage=vantage,
    )
    return Turn(pipeline, progress, interval_s, copier, lookout, vantage)


async def _wal_end(settings: Settings) -> Lsn:
    """Ask the source, by a connection of its own: a burst is rare."""
    async with await connect(settings.source.require_dsn()) as source:
        return await wal_end(source)


async def _by_spool(
    sides: Sides, settings: Settings, limits: Limits, copying: Copying, store: Store
) -> Turn:
    stream, source, target = sides.stream, sides.source, sides.target
    idle_file = IdleFile(settings.state_dir, identify(stream, settings))
    interval_s = await status_interval(stream)
    await start_spooling(stream, source, target, idle_file, store, settings=settings)
    log.info(
        "streaming by way of the spool",
        extra={
            "slot": settings.source.slot,
            "from": format_lsn(store.held.upto),
            "queued_bytes": store.size,
            "queued_transactions": store.transactions,
        },
    )
    spooling = Spooling(
        stream,
        target,
        store,
        idle_file,
        settings=settings,
        limits=limits,
        load_copies=copying.load,
    )
    progress = spooling.progress
    progress.counts = sides.vitals.counts
    sides.vitals.heartbeat.forget()  # it does not arrive by way of the spool
    lookout = Lookout(source, settings, sides.vitals, progress=progress)
    return Turn(spooling, progress, interval_s, None, lookout, None)

"""Starts the stream where the target stands, if that leaves no gap.

The order matters. The slot is the lease: only who streams from it claims the checkpoint, so that
a second daemon is told who holds the slot and fences nobody. Where the checkpoint is known, the
target is not asked at all: a stream that was cut off while Neon sleeps is no reason to wake it.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeAlias

import psycopg

from cdc.backoff import Verdict, described, judge
from cdc.errors import CdcError, CheckFailed, PositionLost, TargetAway, Unavailable
from cdc.lsn import Lsn
from cdc.postgres.session import Connection, connect
from cdc.progress import Progress
from cdc.settings import Settings, SourceSettings
from cdc.source.slot import busy, load_slot
from cdc.source.stream import ReplicationStream
from cdc.sync.position import Held, IdleFile, check_identity, check_position
from cdc.sync.spool import choice
from cdc.target.apply import Target
from cdc.target.checkpoint import Checkpoint, SlotIdentity, load_checkpoint
from cdc.target.connection import connect_target
from cdc.target.ledger import record_gap

_CheckCheckpoint: TypeAlias = Callable[[Checkpoint], Awaitable[None]]


async def start_stream(
    stream: ReplicationStream,
    source: Connection,
    target: Target,
    idle_file: IdleFile,
    settings: Settings,
    *,
    held: Held | None = None,
) -> Progress:
    """Begin to stream after the checkpoint. Raises PositionLost where changes would be missing.

    `held` is what the spool stands for, if there is one; what it holds is on the target already.
    """
    identity = identify(stream, settings)
    check = partial(_check, source, identity, idle_file, held)
    checkpoint = target.known_checkpoint
    if checkpoint is not None:
        try:
            await check(checkpoint)
        except PositionLost:
            # What is remembered may be older than what the target holds: ask before giving up.
            checkpoint = None
    if checkpoint is None:
        try:
            lsn = await _start_and_claim(stream, source, target, settings.source, check)
        except BaseException:
            await target.close()
            raise
    else:
        assert checkpoint.lsn is not None
        lsn = checkpoint.lsn
        await stream.start(settings.source, lsn)
    return Progress(lsn, lsn, lsn)


async def require_position(settings: Settings) -> None:
    """Raise PositionLost, as the start of a stream would, where none is to be started.

    Who streams at this moment has found out for itself.
    """
    source_dsn, target_dsn = settings.source.require_dsn(), settings.target.require_dsn()
    async with await connect(source_dsn) as source, await connect_target(target_dsn) as target:
        stream = await ReplicationStream.connect(source_dsn)
        try:
            identity = identify(stream, settings)
        finally:
            await stream.close()
        slot = await load_slot(source, identity.slot)
        if slot is not None and slot.active:
            return
        store = choice.open_spool(settings, identity)
        try:
            held = None if store is None else store.held
            check = partial(_check, source, identity, IdleFile(settings.state_dir, identity), held)
            await _load_and_check(source, target, identity.slot, check)
        finally:
            if store is not None:
                store.close()


def identify(stream: ReplicationStream, settings: Settings) -> SlotIdentity:
    """Return what the slot would be called among all slots of all servers."""
    system = stream.system
    return SlotIdentity(
        settings.source.slot, system.system_identifier, system.timeline, system.database
    )


async def _start_and_claim(
    stream: ReplicationStream,
    source: Connection,
    target: Target,
    settings: SourceSettings,
    check: _CheckCheckpoint,
) -> Lsn:
    """Begin to stream after the checkpoint that the target tells, claim it, and return its LSN."""
    with asking_target():
        lsn = await _load_and_check(source, await target.connect(), settings.slot, check)
    await stream.start(settings, lsn)
    with asking_target():
        claimed = await target.open()
    if claimed.lsn != lsn:
        raise Unavailable("the checkpoint moved while the stream was started")
    return lsn


async def _load_and_check(
    source: Connection, target: Connection, slot_name: str, check: _CheckCheckpoint
) -> Lsn:
    """Return where the target stands; a position that is lost goes into the ledger."""
    checkpoint = await load_checkpoint(target, slot_name)
    if checkpoint is None or checkpoint.lsn is None:
        problem = f"the target has no checkpoint for slot {slot_name}"
        raise CheckFailed(problem, hint="run `cdc init`")
    try:
        await check(checkpoint)
    except PositionLost as ex:
        slot = await load_slot(source, slot_name)
        until = slot.confirmed if slot else None
        await record_gap(target, slot_name, ex.message, after=checkpoint.lsn, until=until)
        raise
    return checkpoint.lsn


async def _check(
    source: Connection,
    identity: SlotIdentity,
    idle_file: IdleFile,
    held: Held | None,
    checkpoint: Checkpoint,
) -> None:
    """Find out whether the slot is free and leaves no gap after the checkpoint."""
    check_identity(checkpoint, identity)
    slot = await load_slot(source, identity.slot)
    if slot is not None and slot.active:
        raise busy(identity.slot, slot)
    check_position(checkpoint, slot, idle_file.load(), held)


@contextmanager
def asking_target() -> Iterator[None]:
    """Say of what would be tried again that it is the target which is away."""
    try:
        yield
    except (psycopg.Error, CdcError, OSError) as ex:
        if judge(ex) is not Verdict.RETRY or isinstance(ex, Unavailable):
            raise
        raise TargetAway(f"the target is away: {described(ex)}") from ex

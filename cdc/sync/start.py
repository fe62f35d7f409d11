"""Starts the stream where the target stands, if that leaves no gap.

The order matters. The slot is the lease: only who streams from it claims the checkpoint, so that
a second daemon is told who holds the slot and fences nobody. Where the checkpoint is known, the
target is not asked at all: a stream that was cut off while Neon sleeps is no reason to wake it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from cdc.backoff import Verdict, described, judge
from cdc.errors import CdcError, CheckFailed, PositionLost, TargetAway, Unavailable
from cdc.postgres.session import Connection
from cdc.progress import Progress
from cdc.settings import Settings
from cdc.source.slot import busy, load_slot
from cdc.source.stream import ReplicationStream
from cdc.sync.position import Held, IdleFile, check_identity, check_position
from cdc.target.apply import Target
from cdc.target.checkpoint import Checkpoint, SlotIdentity, load_checkpoint
from cdc.target.connection import connect_target
from cdc.target.ledger import record_gap


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
    checkpoint = target.known_checkpoint
    if checkpoint is not None:
        try:
            await _check(source, checkpoint, identity, idle_file, held)
        except PositionLost:
            # What is remembered may be older than what the target holds: ask before giving up.
            checkpoint = None
    known = checkpoint is not None
    if checkpoint is None:
        with asking_target():
            checkpoint = await _load_and_check(source, identity, idle_file, settings, held)
    assert checkpoint.lsn is not None
    await stream.start(settings.source, checkpoint.lsn)
    if known:
        claimed = checkpoint
    else:
        with asking_target():
            claimed = await target.open()
    if claimed.lsn != checkpoint.lsn:
        raise Unavailable("the checkpoint moved while the stream was started")
    return Progress(checkpoint.lsn, checkpoint.lsn, checkpoint.lsn)


def identify(stream: ReplicationStream, settings: Settings) -> SlotIdentity:
    """Return what the slot would be called among all slots of all servers."""
    system = stream.system
    return SlotIdentity(
        settings.source.slot, system.system_identifier, system.timeline, system.database
    )


async def _load_and_check(
    source: Connection,
    identity: SlotIdentity,
    idle_file: IdleFile,
    settings: Settings,
    held: Held | None,
) -> Checkpoint:
    """Ask the target for its checkpoint; a position that is lost goes into the ledger."""
    async with await connect_target(settings.target.require_dsn()) as target:
        checkpoint = await load_checkpoint(target, identity.slot)
        if checkpoint is None or checkpoint.lsn is None:
            problem = f"the target has no checkpoint for slot {identity.slot}"
            raise CheckFailed(problem, hint="run `cdc init`")
        try:
            await _check(source, checkpoint, identity, idle_file, held)
        except PositionLost as ex:
            slot = await load_slot(source, identity.slot)
            until = slot.confirmed if slot else None
            await record_gap(target, identity.slot, ex.message, after=checkpoint.lsn, until=until)
            raise
    return checkpoint


async def _check(
    source: Connection,
    checkpoint: Checkpoint,
    identity: SlotIdentity,
    idle_file: IdleFile,
    held: Held | None,
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

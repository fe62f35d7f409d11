"""The sole writer: at any time one daemon writes for a slot, and whoever comes next ends it.

A daemon that is frozen or cut off may leave sessions behind, in the middle of transactions that
hold locks on rows and on the checkpoint. So the session that writes holds an advisory lock, and
those that copy tables share another. The next one ends the sessions that it finds with them, and
then claims the checkpoint. Only who streams from the slot comes here: what it finds is a daemon's
that does not any more, be it this one, whose copies then go on.

What a former session has committed is durable before the claim returns: the claim commits after
it. What it writes later, the epoch forbids (`checkpoint.claim`).
"""

import asyncio
import logging
from time import monotonic

from cdc.errors import Unavailable
from cdc.postgres.advisory import holders, share, try_lock
from cdc.postgres.session import Connection

log = logging.getLogger(__name__)

POLL_S = 0.1

# A backend ends at its next check for interrupts.
PATIENCE_S = 10.0


async def become_sole_writer(connection: Connection, slot: str, *, first: bool) -> None:
    """End the session that wrote before, if there is one; at `first`, those that copy too.

    Raises Unavailable if one stays.
    """
    deadline = monotonic() + PATIENCE_S
    while not await try_lock(connection, _writer(slot)):
        await _end(connection, _writer(slot), deadline)
    if first:
        await end_copiers(connection, slot)


async def end_copiers(connection: Connection, slot: str) -> None:
    """End sessions that copy: what they have written is written, and no more will come.

    Raises Unavailable if one stays.
    """
    deadline = monotonic() + PATIENCE_S
    while await holders(connection, _copiers(slot)):
        await _end(connection, _copiers(slot), deadline)


async def writing_sessions(connection: Connection, slot: str) -> list[int]:
    """Return the PIDs of the sessions that write for a slot, or copy for it."""
    writers = await holders(connection, _writer(slot))
    return [*writers, *await holders(connection, _copiers(slot))]


async def end_writers(connection: Connection, slot: str) -> list[int]:
    """End the sessions that write or copy, and take nobody's place; return their PIDs.

    For who has locked the checkpoint: a daemon that comes back waits there, and holds nothing. Not
    its lock, which the next daemon would end us for. Raises Unavailable if one stays.
    """
    found = await writing_sessions(connection, slot)
    for pid in found:
        await connection.execute("select pg_terminate_backend(%s)", (pid,))
    deadline = monotonic() + PATIENCE_S
    while staying := set(found) & set(await writing_sessions(connection, slot)):
        if monotonic() > deadline:
            raise _stays(f"PID {min(staying)}")
        await asyncio.sleep(POLL_S)
    return found


async def join_copiers(connection: Connection, slot: str) -> None:
    """Let a session that copies end when another daemon takes over."""
    await share(connection, _copiers(slot))


async def _end(connection: Connection, lock: str, deadline: float) -> None:
    for pid in await holders(connection, lock):
        log.warning("ending a session that wrote before", extra={"pid": pid, "lock": lock})
        await connection.execute("select pg_terminate_backend(%s)", (pid,))
    if monotonic() > deadline:
        raise _stays(f"it holds the lock {lock!r}")
    await asyncio.sleep(POLL_S)


def _stays(who: str) -> Unavailable:
    return Unavailable(
        f"a session that wrote before does not end: {who}",
        hint="end it by hand: `select * from pg_locks where locktype = 'advisory'` on the"
        " target names it",
    )


def _writer(slot: str) -> str:
    return f"cdc writer {slot}"


def _copiers(slot: str) -> str:
    return f"cdc copier {slot}"

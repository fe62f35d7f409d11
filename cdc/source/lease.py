"""The slot as a lease: who streams from it leads, everybody else stands by and leaves it alone.

Whoever holds the slot is named. A walsender of this very process, left behind by a connection that
was cut, is no rival: its application name ends with our `INSTANCE`, and it is ended. A rival is
never touched; one that is gone without a word loses the slot after its `wal_sender_timeout`.

Who stands by shares an advisory lock, so that the leader knows, and so does who waits for what the
leader does: see `sync.standby`.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic

import psycopg

from cdc.postgres.advisory import holders, share, unshare
from cdc.postgres.session import INSTANCE, Connection
from cdc.source.slot import Slot, busy, load_slot

log = logging.getLogger(__name__)

# How often one who stands by looks: a short query on the source, none on the target.
POLL_S = 1.0

_DAEMON = re.compile(rf" [0-9a-f]{{{len(INSTANCE)}}}\Z")


async def wait_for_lease(
    source: Connection,
    name: str,
    *,
    patience_s: float | None,
    superseded: Callable[[], Awaitable[None]],
) -> bool:
    """Wait until nobody streams from the slot; return True if a rival did meanwhile.

    Raises SlotBusy once patience is at an end.
    `superseded` is called once if a rival has it: for one who led before, to find out about that.
    """
    since, told, shared = monotonic(), None, False
    while (slot := await load_slot(source, name)) is not None and slot.active:
        ours = _is_ours(slot)
        if told != slot.active_pid:
            told = slot.active_pid
            if ours:
                log.info("ending our own former walsender", extra={"pid": slot.active_pid})
                await _end(source, slot)
            else:
                log.warning("standing by", extra={"reason": busy(name, slot).message})
                await superseded()
        if not ours and not shared:
            await share(source, _standby(name))
            shared = True
        if patience_s is not None and monotonic() - since > patience_s:
            raise busy(name, slot)
        await asyncio.sleep(POLL_S / 10 if ours else POLL_S)
    if shared:
        await unshare(source, _standby(name))
    return shared


def is_daemon(application: str) -> bool:
    """Tell whether the name of a walsender's client ends as a daemon's does."""
    return _DAEMON.search(application) is not None


async def has_standby(source: Connection, name: str) -> bool:
    """Tell whether another daemon waits for the slot."""
    return bool(await holders(source, _standby(name)))


async def held_by_another(source: Connection, name: str) -> Slot | None:
    """Return the slot if a rival streams from it."""
    slot = await load_slot(source, name)
    return slot if slot is not None and slot.active and not _is_ours(slot) else None


@asynccontextmanager
async def following(source: Connection, name: str) -> AsyncIterator[None]:
    """Have the leader know that somebody waits for its checkpoint, and may go on from there."""
    locks = _standby(name), _follower(name)
    for lock in locks:
        await share(source, lock)
    yield
    for lock in locks:
        await unshare(source, lock)


async def has_follower(source: Connection, name: str) -> bool:
    """Tell whether somebody waits for the leader's checkpoint."""
    return bool(await holders(source, _follower(name)))


def _follower(name: str) -> str:
    return f"cdc until {name}"


def _standby(name: str) -> str:
    return f"cdc standby {name}"


def _is_ours(slot: Slot) -> bool:
    return f" {INSTANCE} (user" in (slot.consumer or "")


async def _end(source: Connection, slot: Slot) -> None:
    try:
        await source.execute("select pg_terminate_backend(%s)", (slot.active_pid,))
    except psycopg.errors.InsufficientPrivilege:
        log.info("may not end it: it ends by itself after wal_sender_timeout")

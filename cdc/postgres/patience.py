"""Patience with the locks of others, for who must not wait without a word.

A statement that waits for a lock for longer than `PATIENCE_S` is given up, with an error that says
for whom it has waited: a second session asks meanwhile, since afterwards nobody knows. The locks
that it would take itself hold nobody up for longer either.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psycopg

from cdc.errors import Unavailable
from cdc.postgres.activity import Blocked, load_blocked, load_sessions
from cdc.postgres.blockers import blockers_of, end_of
from cdc.postgres.session import Connection, Side, connect

PATIENCE_S = 5.0

# Most are done by then, and need no second session.
_LOOK_AFTER_S = 2.0
_LOOK_INTERVAL_S = 1.0

_LIMIT = "select set_config('lock_timeout', %s, false), pg_backend_pid()"


@dataclass(slots=True)
class Waiting:
    """One who may have to wait, and what was seen of that."""

    side: Side
    connection: Connection
    dsn: str
    seen: Blocked | None = None


@asynccontextmanager
async def patience(*all_waiting: Waiting) -> AsyncIterator[None]:
    """Give up what waits for a lock for too long: raises Unavailable. The sessions stay so."""
    looks: list[asyncio.Task[None]] = []
    try:
        for waiting in all_waiting:
            limit = (f"{PATIENCE_S * 1000:.0f}",)
            row = await (await waiting.connection.execute(_LIMIT, limit)).fetchone()
            assert row is not None
            looks.append(asyncio.create_task(_look(waiting, int(str(row[1])))))
        yield
    except psycopg.errors.LockNotAvailable as ex:
        raise _given_up(all_waiting) from ex
    finally:
        for look in looks:
            look.cancel()
        await asyncio.gather(*looks, return_exceptions=True)


async def _look(waiting: Waiting, pid: int) -> None:
    """Note for whom it waits, until cancelled; without a second session nobody knows."""
    await asyncio.sleep(_LOOK_AFTER_S)
    with contextlib.suppress(psycopg.Error, OSError):
        async with await connect(waiting.dsn, application_name="cdc watch") as beside:
            while True:
                for session in await load_sessions(beside, "a.pid = %s", pid):
                    if session.waits_for_lock:
                        waiting.seen = await load_blocked(beside, session)
                await asyncio.sleep(_LOOK_INTERVAL_S)


def _given_up(all_waiting: tuple[Waiting, ...]) -> Unavailable:
    for waiting in all_waiting:
        if waiting.seen is not None:
            lock, blockers = waiting.seen.lock or "a lock", waiting.seen.blockers
            return Unavailable(
                f"waited {PATIENCE_S:.0f} s for {lock} on the {waiting.side}, where"
                f" {blockers_of(blockers)} has a lock",
                hint=end_of(blockers, waiting.side),
            )
    return Unavailable(
        f"waited {PATIENCE_S:.0f} s for a lock that somebody else has",
        hint="select * from pg_locks where not granted;  -- on either side, while it is run again",
    )

"""The sole writer: at any time one session writes for a slot, and whoever comes next ends it.

A daemon that is frozen or cut off may leave a session behind, in the middle of a transaction that
holds locks on rows and on the checkpoint. So the session that writes holds an advisory lock; the
next one ends the session that it finds with it, and then claims the checkpoint. Only who streams
from the slot comes here: what it finds is a daemon's that does not any more, be it this one.

What the former session has committed is durable before the claim returns: the claim commits after
it. On the former one's side, `epoch` is what tells: see `checkpoint.claim`.
"""

import asyncio
import logging
from time import monotonic

from cdc.errors import Unavailable
from cdc.postgres.advisory import holders, try_lock
from cdc.postgres.session import Connection

log = logging.getLogger(__name__)

POLL_S = 0.1

# A backend ends at its next check for interrupts.
PATIENCE_S = 10.0


async def become_sole_writer(connection: Connection, slot: str) -> None:
    """End the session that wrote before, if there is one. Raises Unavailable if it stays."""
    since, name, told = monotonic(), f"cdc writer {slot}", False
    while not await try_lock(connection, name):
        for pid in await holders(connection, name):
            if not told:
                log.warning("ending the session that wrote before", extra={"pid": pid})
            told = True
            await connection.execute("select pg_terminate_backend(%s)", (pid,))
        if monotonic() - since > PATIENCE_S:
            raise Unavailable(
                f"a session that wrote for slot {slot} before does not end",
                hint="end it by hand: `select * from pg_locks where locktype = 'advisory'` on the"
                " target names it",
            )
        await asyncio.sleep(POLL_S)

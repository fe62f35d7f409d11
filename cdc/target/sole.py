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
from cdc.postgres.session import Connection

log = logging.getLogger(__name__)

POLL_S = 0.1

# A backend ends at its next check for interrupts.
PATIENCE_S = 10.0

_KEY = "hashtextextended('cdc writer ' || %(slot)s, 0)"

_LOCK = f"select pg_try_advisory_lock({_KEY})"

_END = f"""
select l.pid, pg_terminate_backend(l.pid)
  from pg_locks l
 where l.locktype = 'advisory' and l.objsubid = 1 and l.granted and l.pid <> pg_backend_pid()
   and l.database = (select oid from pg_database where datname = current_database())
   and (l.classid::int8 << 32 | l.objid::int8) = {_KEY}
"""


async def become_sole_writer(connection: Connection, slot: str) -> None:
    """End the session that wrote before, if there is one. Raises Unavailable if it stays."""
    since, told = monotonic(), False
    while not await _locked(connection, slot):
        ended = await (await connection.execute(_END, {"slot": slot})).fetchall()
        if ended and not told:
            log.warning("ending the session that wrote before", extra={"pid": ended[0][0]})
            told = True
        if monotonic() - since > PATIENCE_S:
            raise Unavailable(
                f"a session that wrote for slot {slot} before does not end",
                hint="end it by hand: `select * from pg_locks where locktype = 'advisory'` on the"
                " target names it",
            )
        await asyncio.sleep(POLL_S)


async def _locked(connection: Connection, slot: str) -> bool:
    row = await (await connection.execute(_LOCK, {"slot": slot})).fetchone()
    return row is not None and bool(row[0])

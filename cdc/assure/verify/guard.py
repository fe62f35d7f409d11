"""Gives way: nobody waits for long for a lock on a table because it is being compared.

To read a table takes the weakest lock there is, and yet one that ALTER TABLE, TRUNCATE and the like
wait for; and behind who waits for that, all others queue up who want the table. A migration on the
source, or the daemon on the target, is worth more than a comparison, which can be made again.
"""

import asyncio
from collections.abc import Collection

from cdc.errors import Unavailable
from cdc.postgres.session import Connection, Side

# Who waits at two looks in a row has waited for long enough.
LOOK_S = 1.0

# Who builds an index CONCURRENTLY waits for transactions that have begun before.
_WAITING = """
select pid, coalesce(relation::regclass::text, 'the end of older transactions') from pg_locks
 where not granted and locktype in ('relation', 'virtualxid') and pg_blocking_pids(pid) && %s::int[]
   and (database = (select oid from pg_database where datname = current_database())
        or locktype = 'virtualxid')
"""


async def give_way(side: Side, connection: Connection, ours: Collection[int]) -> None:
    """Look until cancelled; raises Unavailable once somebody waits for one of our sessions.

    The connection is of no use afterwards: it may have been cut off in the middle of a question.
    """
    before: set[int] = set()
    while True:
        await asyncio.sleep(LOOK_S)
        cursor = await connection.execute(_WAITING, (list(ours),))
        waiting = {int(str(pid)): str(relation) for pid, relation in await cursor.fetchall()}
        for pid in before & waiting.keys():
            raise Unavailable(
                f"PID {pid} of the {side} waits for {waiting[pid]}, and for this comparison by"
                " that: gave way",
                hint="run `cdc verify` again when that is through",
            )
        before = set(waiting)

"""Advisory locks by name: how sessions of one database know of each other, and leave no trace.

A lock is held by a session, until that gives it back or ends, however it ends. Any role may take
one, and may see who holds it.
"""

from cdc.postgres.session import Connection

_HOLDERS = """
select l.pid from pg_locks l
 where l.locktype = 'advisory' and l.objsubid = 1 and l.granted and l.pid <> pg_backend_pid()
   and l.database = (select oid from pg_database where datname = current_database())
   and (l.classid::int8 << 32 | l.objid::int8) = hashtextextended(%s, 0)
"""


async def try_lock(connection: Connection, name: str) -> bool:
    """Take a lock for this session alone; False if another has it."""
    return await _first(connection, "select pg_try_advisory_lock(hashtextextended(%s, 0))", name)


async def share(connection: Connection, name: str) -> None:
    """Take a lock beside others that share it."""
    await connection.execute("select pg_advisory_lock_shared(hashtextextended(%s, 0))", (name,))


async def unshare(connection: Connection, name: str) -> None:
    """Give a shared lock back."""
    await connection.execute("select pg_advisory_unlock_shared(hashtextextended(%s, 0))", (name,))


async def holders(connection: Connection, name: str) -> list[int]:
    """Return the PIDs of other sessions that hold a lock."""
    cursor = await connection.execute(_HOLDERS, (name,))
    return [int(str(pid)) for (pid,) in await cursor.fetchall()]


async def own_pid(connection: Connection) -> int:
    """Return the PID that others see this session by; a proxy may have told it another one."""
    row = await (await connection.execute("select pg_backend_pid()")).fetchone()
    assert row is not None
    return int(str(row[0]))


async def _first(connection: Connection, query: str, name: str) -> bool:
    row = await (await connection.execute(query.encode(), (name,))).fetchone()
    return row is not None and bool(row[0])

"""Who holds locks on the target's tables, and so is in the way."""

from collections.abc import Sequence

import psycopg

from cdc.postgres.activity import Session, load_sessions
from cdc.postgres.blockers import blockers_of, end_of
from cdc.postgres.ordering import QualifiedName
from cdc.postgres.session import Connection

BLOCKED = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)
"""What says that somebody else holds a lock."""

_LOCKS = """
a.pid in (select l.pid from pg_locks l join pg_class c on c.oid = l.relation
            join pg_namespace n on n.oid = c.relnamespace
           where l.granted and l.locktype = 'relation'
             and l.database = (select oid from pg_database where datname = current_database())
"""

_ON_TABLES = f"""{_LOCKS}
 and exists (select from unnest(%s::text[], %s::text[]) t (schema, name)
               join pg_namespace rn on rn.nspname = t.schema
               join pg_class r on r.relnamespace = rn.oid and r.relname = t.name
              where r.oid in (c.oid, pg_partition_root(c.oid))))
"""

_AGAINST_READERS = f"{_LOCKS} and l.mode = 'AccessExclusiveLock' and n.nspname = any(%s))"


async def load_blockers(target: Connection, names: Sequence[QualifiedName]) -> list[Session]:
    """Return who holds a lock on some tables now, or on a partition of them."""
    return await load_sessions(
        target, _ON_TABLES, [schema for schema, _ in names], [name for _, name in names]
    )


async def load_alterers(target: Connection, schemas: Sequence[str]) -> list[Session]:
    """Return who keeps even readers out of tables of some schemas."""
    return await load_sessions(target, _AGAINST_READERS, list(schemas))


def described_blockers(sessions: Sequence[Session]) -> tuple[str, str]:
    """Return who is in the way, for a message, and what to do about it."""
    if not sessions:
        return blockers_of(sessions), "the same command again"
    return blockers_of(sessions), f"{end_of(sessions, 'target')}; then the same command again"

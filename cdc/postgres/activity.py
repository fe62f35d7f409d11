"""Sessions as pg_stat_activity shows them, and who keeps one waiting for a lock.

A role sees its own sessions in full, and those of others with pg_read_all_stats (pg_monitor:
Supabase's `postgres` has it, a Neon owner has not). Of the rest it sees that they are there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from psycopg.rows import class_row

from cdc.postgres.masked import masked
from cdc.postgres.session import Connection


@dataclass(slots=True, frozen=True)
class Session:
    """A session. None: hidden from our role, or there is no such thing."""

    pid: int
    """0: no session, but a prepared transaction."""
    application: str
    user: str
    hidden: bool
    """The server does not show our role what it does."""
    state: str | None
    wait_type: str | None
    wait: str | None
    statement: str | None
    """What it runs or ran last, without values."""
    transaction_s: float | None
    """Age of its transaction."""
    idle_s: float | None
    """Since it has come to the state that it is in."""

    @property
    def waits_for_lock(self) -> bool:
        """It can go on when another transaction ends."""
        return self.wait_type == "Lock"


@dataclass(slots=True, frozen=True)
class Blocked:
    """A session that waits for a lock, and for whom."""

    waiting: Session
    lock: str | None
    """What it waits for; None: not any more."""
    blockers: Sequence[Session]


_COLUMNS = """
coalesce(a.application_name, '') as application, coalesce(a.usename::text, '') as "user",
coalesce(a.query = '<insufficient privilege>', false) as hidden, a.state,
a.wait_event_type as wait_type, a.wait_event as wait,
case when a.query not in ('', '<insufficient privilege>') then a.query end as statement,
extract(epoch from clock_timestamp() - a.xact_start)::float8 as transaction_s,
extract(epoch from clock_timestamp() - a.state_change)::float8 as idle_s
"""

# Who waits may wait for one who waits; where they wait in a circle, all of them are it. A prepared
# transaction blocks as PID 0.
_BLOCKERS = f"""
with recursive chain (pid, depth) as (
  select unnest(pg_blocking_pids(%(pid)s)), 1
  union
  select unnest(pg_blocking_pids(c.pid)), c.depth + 1 from chain c where c.depth < 8
), roots as (
  select distinct pid from chain
   where pg_blocking_pids(pid) = '{{}}' or not exists
    (select from chain o where pg_blocking_pids(o.pid) = '{{}}')
)
select r.pid, {_COLUMNS}
  from roots r left join pg_stat_activity a on a.pid = r.pid order by a.xact_start, r.pid
"""  # noqa: S608  # constants of ours

_AWAITED = """
select case when locktype in ('transactionid', 'tuple') then 'a row that is changed'
       when relation is not null then format('%%s (%%s)', relation::regclass, mode)
       else format('%%s (%%s)', locktype, mode) end
  from pg_locks where pid = %s and not granted limit 1
"""


async def load_sessions(connection: Connection, where: str, *parameters: object) -> list[Session]:
    """Return the sessions, but for our own, for which a condition on `a` holds."""
    cursor = connection.cursor(row_factory=class_row(Session))
    await cursor.execute(
        f"select a.pid, {_COLUMNS} from pg_stat_activity a"  # noqa: S608  # a constant of ours
        f" where a.pid <> pg_backend_pid() and {where} order by a.xact_start, a.pid",
        parameters or None,
    )
    return [_masked(row) for row in await cursor.fetchall()]


async def load_blocked(connection: Connection, waiting: Session) -> Blocked:
    """Return for whom a session waits: those who wait for nobody themselves."""
    cursor = await connection.execute(_AWAITED, (waiting.pid,))
    row = await cursor.fetchone()
    blockers = connection.cursor(row_factory=class_row(Session))
    await blockers.execute(_BLOCKERS, {"pid": waiting.pid})
    lock = None if row is None else str(row[0])
    return Blocked(waiting, lock, [_masked(session) for session in await blockers.fetchall()])


async def load_prepared(connection: Connection) -> list[tuple[str, float]]:
    """Return prepared transactions, the oldest first: each one's identifier and its age."""
    cursor = await connection.execute(
        "select gid, extract(epoch from clock_timestamp() - prepared)::float8"
        " from pg_prepared_xacts order by prepared"
    )
    return [(str(gid), float(str(age))) for gid, age in await cursor.fetchall()]


def _masked(session: Session) -> Session:
    statement = session.statement
    return session if statement is None else replace(session, statement=masked(statement))

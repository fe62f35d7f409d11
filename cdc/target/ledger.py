"""The ledger: what an operator has to know later, in a table of the target.

Gaps, skips, triggers disabled, tables adopted. An entry is never changed but for its resolution.
"""

from psycopg.rows import scalar_row

from cdc.lsn import Lsn, format_lsn
from cdc.postgres.session import Connection


async def record(
    connection: Connection,
    slot: str,
    event: str,
    detail: str,
    *,
    from_lsn: Lsn | None = None,
    to_lsn: Lsn | None = None,
) -> None:
    """Write an entry, in the transaction that is open if one is."""
    await connection.execute(
        "insert into cdc.ledger (slot, event, detail, from_lsn, to_lsn)"
        " values (%s, %s, %s, %s::pg_lsn, %s::pg_lsn)",
        (
            slot,
            event,
            detail,
            None if from_lsn is None else format_lsn(from_lsn),
            None if to_lsn is None else format_lsn(to_lsn),
        ),
    )


async def record_gap(
    connection: Connection, slot: str, problem: str, *, after: Lsn | None, until: Lsn | None
) -> None:
    """Note that changes after an LSN may be missing, unless that stands open there already."""
    cursor = await connection.execute(
        "select from cdc.ledger where slot = %s and from_lsn = coalesce(%s::pg_lsn, from_lsn)"
        " and resolved_at is null limit 1",
        (slot, None if after is None else format_lsn(after)),
    )
    if await cursor.fetchone() is None:
        await record(connection, slot, "position lost", problem, from_lsn=after, to_lsn=until)


async def count_open_entries(connection: Connection, slot: str) -> int:
    """Return how many entries ask for something: they have a range, and no resolution yet."""
    cursor = connection.cursor(row_factory=scalar_row)
    await cursor.execute(
        "select count(*) from cdc.ledger"
        " where slot = %s and resolved_at is null and from_lsn is not null",
        (slot,),
    )
    number = await cursor.fetchone()
    assert isinstance(number, int)
    return number


async def load_open_entries(connection: Connection, slot: str) -> list[str]:
    """Return the entries that ask for something, for people."""
    cursor = await connection.execute(
        "select format('%%s: %%s', event, detail) from cdc.ledger"
        " where slot = %s and resolved_at is null and from_lsn is not null order by id",
        (slot,),
    )
    return [str(row[0]) for row in await cursor.fetchall()]


async def resolve_gaps(connection: Connection, slot: str, resolution: str) -> None:
    """Close the entries of gaps that lie before the newest copy of each table."""
    await connection.execute(
        "update cdc.ledger l set resolved_at = clock_timestamp(), resolution = %s"
        " where slot = %s and from_lsn is not null and resolved_at is null and not exists"
        "  (select from cdc.copy c where c.slot = l.slot"
        "    and (c.completed_at is null or c.completed_at < l.at))",
        (resolution, slot),
    )


DRILLED = "failover drill"
DRILL_FAILED = "failover drill failed"
PROMOTED = "promoted"
"""Events of a failover; none of them has a range, for none asks for anything."""


_FAILOVERS = {DRILLED: "drill ok", DRILL_FAILED: "drill failed", PROMOTED: "promoted"}


async def count_failovers(connection: Connection, slot: str) -> dict[str, int]:
    """Return how often the target was promoted, and that was rehearsed, by what came of it."""
    cursor = await connection.execute(
        "select event, count(*)::int from cdc.ledger where slot = %s and event = any(%s)"
        " group by event",
        (slot, list(_FAILOVERS)),
    )
    found = {str(event): int(str(number)) for event, number in await cursor.fetchall()}
    return {kind: found.get(event, 0) for event, kind in _FAILOVERS.items()}

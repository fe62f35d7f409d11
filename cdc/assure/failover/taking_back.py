"""Takes back on the target what the copy needed, inside the transaction that is open.

The same for a promotion, which commits it, and for a drill, which does not: all of it is rolled
back by PostgreSQL, sequences too (`alter sequence … restart` is transactional, setval is not).

What is locked is locked at the beginning and at once, in one order; whoever is in the way makes it
fail after `lock_timeout`. At the end the catalog is asked whether anything is left.
"""

from collections.abc import Iterable, Sequence

import psycopg

from cdc.assure.failover.sequences import Move
from cdc.assure.failover.state import load_plan, load_unowned
from cdc.errors import NeedsOperator
from cdc.postgres.names import quoted
from cdc.postgres.session import Connection
from cdc.target.copies import CopyRow


async def take_back(
    target: Connection,
    schemas: Sequence[str],
    moves: Iterable[Move],
    copies: Iterable[CopyRow],
    *,
    lock_timeout_ms: int,
) -> list[str]:
    """Make the tables what they were before they became a copy; return what was done, for people.

    Raises one of `blockers.BLOCKED` where somebody holds a lock.
    """
    await target.execute(f"set local lock_timeout = {lock_timeout_ms}".encode())
    done = await _put_back_keys(target, copies)
    plan = await load_plan(target, schemas)
    # One that is only referred to may be another role's: that is locked when its turn comes.
    others = await load_unowned(target, plan.locked)
    names = ", ".join(quoted(*name) for name in plan.locked if name not in others)
    if names:
        await target.execute(f"lock table {names} in access exclusive mode".encode())
    for restoration in plan.restorations:
        await target.execute(restoration.statement.encode())
        done.append(f"{'.'.join(restoration.table)}: {restoration.what}")
    for moved in moves:
        name = quoted(*moved.sequence.name)
        await target.execute(f"alter sequence {name} restart with {moved.restart}".encode())
        done.append(f"sequence {moved.sequence} goes on at {moved.restart}")
    left = (await load_plan(target, schemas)).restorations
    if left:
        raise NeedsOperator(
            f"not all could be taken back: {left[0].what}, of {'.'.join(left[0].table)}",
            hint=f"{left[0].statement};  -- says why; nothing was changed",
        )
    return done


async def _put_back_keys(target: Connection, copies: Iterable[CopyRow]) -> list[str]:
    """Put back the foreign keys that tables lack while they are copied, for rows to come."""
    done = []
    for copy in copies:
        for statement in () if copy.completed else copy.foreign_keys:
            already = statement.endswith("not valid")
            for attempt in (statement if already else f"{statement} not valid", statement):
                try:
                    async with target.transaction():
                        await target.execute(attempt.encode())
                except (psycopg.errors.IntegrityError, psycopg.errors.FeatureNotSupported):
                    continue
                except (psycopg.errors.DuplicateObject, psycopg.errors.UndefinedTable):
                    break
                done.append(f"{copy.table_schema}.{copy.table_name}: a foreign key is back")
                break
    return done

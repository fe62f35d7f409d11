"""Reads how far a daemon has come, from the two databases that it works on.

As an onlooker would: the daemon is not asked, and what is read is what an operator could read.
"""

from dataclasses import dataclass

import psycopg
from psycopg.rows import class_row

from cdc.postgres.session import Connection
from cdc.settings import SourceSettings
from cdc.source.slot import load_slot

# The daemon that is measured runs with the defaults.
SLOT = SourceSettings().slot


@dataclass(slots=True)
class Applied:
    """What the target says."""

    copied: bool
    """All tables are."""
    epoch: int
    """Raised by each daemon that starts to stream."""
    rows_copied: int
    transactions: int
    changes: int
    seconds_behind: float | None
    """Age of the newest commit that was applied; lag, as long as somebody writes."""


NOTHING_APPLIED = Applied(False, 0, 0, 0, 0, None)

_APPLIED = """
select c.epoch, c.transactions, c.changes,
       extract(epoch from clock_timestamp() - c.commit_time)::float8 as seconds_behind,
       (select coalesce(bool_and(completed_at is not null), false)
          from cdc.copy t where t.slot = c.slot) as copied,
       (select coalesce(sum(rows), 0)::int8 from cdc.copy t where t.slot = c.slot)
         + (select coalesce(sum(rows), 0)::int8 from cdc.snapshot_chunk s where s.slot = c.slot)
         as rows_copied
  from cdc.checkpoint c where c.slot = %s
"""


class Meter:
    """What the two sessions that it is given say about the daemon."""

    __slots__ = ("_source", "_target")

    def __init__(self, source: Connection, target: Connection) -> None:
        self._source = source
        self._target = target

    async def applied(self) -> Applied:
        """Ask the target."""
        cursor = self._target.cursor(row_factory=class_row(Applied))
        try:
            row = await (await cursor.execute(_APPLIED, (SLOT,))).fetchone()
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            row = None
        return row or NOTHING_APPLIED

    async def lag_bytes(self) -> int:
        """Ask the source how much WAL it has that is not confirmed."""
        slot = await load_slot(self._source, SLOT)
        return slot.lag_bytes or 0 if slot else 0

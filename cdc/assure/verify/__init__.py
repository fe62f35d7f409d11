"""Whether the target holds what the source does: exactly, at one LSN, while both are written to.

    appointment   the daemon lets the stream stand still at the LSN of a snapshot of the source
    view          that snapshot, and one of the target there; the stream goes on
    tables        what of each table is compared
    comparison    digests on both servers; where they differ, row by row
    guard         whoever waits for a lock of ours is given way

The result stands in `cdc.verification` on the target; the daemon reads it there, and reports it.
Several tables are compared at once, each in a transaction of its own.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from cdc.assure.verify.appointment import Appointment
from cdc.assure.verify.comparison import TableComparison, shown
from cdc.assure.verify.crew import compare_all
from cdc.assure.verify.sessions import sessions
from cdc.assure.verify.tables import load_compared
from cdc.assure.verify.view import open_view
from cdc.assure.verify.watcher import Watcher
from cdc.backoff import described
from cdc.errors import CdcError, CheckFailed
from cdc.lsn import Lsn
from cdc.postgres.ordering import QualifiedName
from cdc.postgres.session import Connection
from cdc.settings import Settings
from cdc.source.copied import load_copied_tables
from cdc.target.verification import finish, give_up, join


@dataclass(slots=True, frozen=True)
class Verification:
    """What was found."""

    lsn: Lsn
    """Both sides were compared as of this place of the stream."""
    tables: dict[QualifiedName, TableComparison]

    @property
    def differing(self) -> list[QualifiedName]:
        """The tables whose rows differ."""
        return [name for name, counts in self.tables.items() if not counts.equal]


async def verify(
    settings: Settings, names: Sequence[QualifiedName], watcher: Watcher
) -> Verification:
    """Compare tables, all if there are no names. Needs a running daemon.

    Raises CheckFailed where a table is not there, Unavailable where it may be tried again: nobody
    streams, a side goes away, a table is being copied or altered.
    """
    async with sessions(settings) as (source, target):
        await _require_published(source, settings, names)
        appointment = Appointment(source, target, settings.source.slot, watcher.wait_for)
        number = await appointment.ask([shown(name) for name in names] or None)
        try:
            async with sessions(settings) as keepers:
                offered = await appointment.wait(number)
                async with open_view(*keepers, settings.source.slot, offered) as view:
                    await join(target, number)
                    tables = await load_compared(view, settings, names)
                    watcher.begin(tables)
                    found = await compare_all(view, settings, tables, watcher.report)
        except BaseException as ex:
            # Where the target is gone the daemon finds out by itself, once the lock is.
            with contextlib.suppress(psycopg.Error):
                await give_up(target, number, _reason(ex))
            raise
        verified = Verification(offered.lsn, found)
        await finish(
            target,
            number,
            tables=len(found),
            rows=sum(counts.source_rows for counts in found.values()),
            differing=[shown(name) for name in verified.differing],
        )
    return verified


async def _require_published(
    source: Connection, settings: Settings, names: Sequence[QualifiedName]
) -> None:
    copied = await load_copied_tables(source, settings.source)
    there = {table.qualified_name for table in copied.tables} if copied else set()
    unknown = [f"{schema}.{name}" for schema, name in names if (schema, name) not in there]
    if unknown or not there:
        raise CheckFailed(
            f"{', '.join(unknown)} is not copied from the source"
            if unknown
            else "nothing is copied from the source",
            hint="`cdc status` counts the tables that are; see the publication, or the schemas"
            " (CDC_SOURCE_SCHEMAS)",
        )


def _reason(error: BaseException) -> str:
    if isinstance(error, CdcError | psycopg.Error | OSError):
        return described(error)
    return "it was interrupted"

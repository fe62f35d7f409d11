"""Compares several tables at once: pairs of sessions, each at one table under the two snapshots.

A table is a transaction of its own on both sides, so that its lock goes when it is through. What
the snapshot does not show as it was is no result: a table that was truncated or rewritten since (it
is found empty, the manual's caveat of MVCC), made again, renamed, or given other partitions.
"""

import asyncio
from collections import deque
from collections.abc import Sequence

import psycopg

from cdc.assure.verify.comparison import ComparedTable, Report, TableComparison, compare_table
from cdc.assure.verify.guard import give_way
from cdc.assure.verify.sessions import sessions
from cdc.assure.verify.view import View, import_snapshot
from cdc.errors import Unavailable
from cdc.postgres.advisory import own_pid
from cdc.postgres.ordering import QualifiedName
from cdc.postgres.session import Connection
from cdc.settings import Settings
from cdc.source.chunks import is_as_shown
from cdc.tasks import both, first_error


async def compare_all(
    view: View,
    settings: Settings,
    tables: Sequence[ComparedTable],
    report: Report,
) -> dict[QualifiedName, TableComparison]:
    """Compare the tables in their order, `snapshot.workers` at once; return what was found."""
    crew = _Crew(view, settings, tables, report)
    crew.source_pids.add(await own_pid(view.source))
    crew.target_pids.add(await own_pid(view.target))
    try:
        async with sessions(settings) as (source, target), asyncio.TaskGroup() as tasks:
            guarding = [
                tasks.create_task(give_way("source", source, crew.source_pids)),
                tasks.create_task(give_way("target", target, crew.target_pids)),
            ]
            number = min(settings.snapshot.workers, len(tables))
            await asyncio.gather(*[tasks.create_task(crew.work()) for _ in range(number)])
            for task in guarding:
                task.cancel()
    except BaseExceptionGroup as group:
        raise first_error(group) from None
    return {name: crew.found[name] for name in sorted(crew.found)}


class _Crew:
    def __init__(
        self, view: View, settings: Settings, tables: Sequence[ComparedTable], report: Report
    ) -> None:
        self._view = view
        self._settings = settings
        self._left = deque(tables)
        self._report = report
        self.found: dict[QualifiedName, TableComparison] = {}
        self.source_pids: set[int] = set()
        self.target_pids: set[int] = set()

    async def work(self) -> None:
        """Compare tables until none is left."""
        async with sessions(self._settings) as (source, target):
            self.source_pids.add(await own_pid(source))
            self.target_pids.add(await own_pid(target))
            while self._left:
                table = self._left.popleft()
                self.found[table.qualified_name] = await self._compare(source, target, table)

    async def _compare(
        self, source: Connection, target: Connection, table: ComparedTable
    ) -> TableComparison:
        try:
            async with source.transaction(), target.transaction():
                await both(
                    import_snapshot(source, self._view.source_snapshot),
                    import_snapshot(target, self._view.target_snapshot),
                )
                counts = await compare_table(source, target, table, self._report)
                shown = all(
                    await both(
                        is_as_shown(source, table.qualified_name),
                        is_as_shown(target, table.qualified_name),
                    )
                )
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
            shown = False
        if not shown:
            raise Unavailable(
                f"{table.name} was altered while it was compared", hint="run `cdc verify` again"
            )
        return counts

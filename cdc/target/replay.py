"""The changes of one source transaction in source order, to find those that the target refuses.

The last of three ways to write a batch (`target.write`). Changes are tried together; where the
target refuses them, each half for itself, until a single change is left that it refuses: two round
trips for each halving, so that a refusal is found fast over a WAN too. That change ends the replay
with ChangeRefused, or goes into the quarantine, and the others go on. Of a table that is copied
meanwhile it is left out, and the copy begun anew: that will show what it has done.

What is said of it: its relation, constraint, key columns and the LSN of its transaction. Never a
value of its row: the server's own message may quote one, so only its fields go on.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from itertools import groupby
from typing import TypeAlias

import psycopg
from psycopg import AsyncRawCursor

from cdc.backoff import Verdict, judge
from cdc.changes.change import Change
from cdc.changes.fold import Truncation
from cdc.changes.held import Held, Waiting
from cdc.changes.relations import QualifiedName, Table, not_unique
from cdc.errors import ChangeRefused
from cdc.lsn import Lsn, format_lsn
from cdc.postgres.session import Connection
from cdc.target.action import CHECK, DEFER, Action, Execute
from cdc.target.copies import request_anew
from cdc.target.ledger import record
from cdc.target.plan import Planner
from cdc.target.quarantine import add, release, wait, wait_with_truncate
from cdc.target.refusal import Refusal, described, reason, refusal
from cdc.target.session import run
from cdc.wire.messages import Row

log = logging.getLogger(__name__)

ReadRow: TypeAlias = Callable[[Table, Row], Awaitable[Row | None]]
"""Asks the source for a row by its key: its values, or None where it is gone."""

_SAVEPOINT = Execute(b"savepoint replay")
_RELEASE = Execute(b"release savepoint replay")
_ROLLBACK = b"rollback to savepoint replay; release savepoint replay"


class Unsettled(Exception):
    """Constraints do not hold when all changes of a transaction are applied; `table` says whose."""

    def __init__(self, table: QualifiedName, refusal: Refusal) -> None:
        super().__init__(refusal.reason)
        self.table = table
        self.refusal = refusal

    def more_suspects(
        self,
        changes: Sequence[Change | Truncation],
        known: dict[QualifiedName, Refusal],
        lsn: Lsn,
    ) -> dict[QualifiedName, Refusal]:
        """Return the tables whose changes may be the cause: the one that was named, else all.

        Raises ChangeRefused where all of them were suspected already: nothing of the transaction
        was applied then, and what is wrong was there before.
        """
        names = {change.table.name for change in changes if isinstance(change, Change)}
        if self.table in names and self.table not in known:
            names = {self.table}
        if names <= known.keys():
            schema, table = self.table
            raise ChangeRefused(
                f"a constraint of {schema}.{table} does not hold on the target at the end of the"
                f" transaction that ends at {format_lsn(lsn)}: {self.refusal.reason}",
                hint="mend the rows on the target, then start the daemon again",
            ) from self
        return known | dict.fromkeys(names, self.refusal)


class Replay:
    """Changes of one source transaction, inside the transaction of the target that is open."""

    def __init__(
        self,
        connection: Connection,
        planner: Planner,
        slot: str,
        held: Held,
        *,
        quarantine: bool,
        suspects: dict[QualifiedName, Refusal] | None = None,
        read_row: ReadRow | None = None,
    ) -> None:
        self._connection = connection
        self._planner = planner
        self._slot = slot
        self._held = held
        self._quarantine = quarantine
        self._suspects = suspects or {}
        self._read_row = read_row
        self.repairs = 0
        """Rows that the target lacked, read from the source."""

    async def run(self, changes: Sequence[Change | Truncation], lsn: Lsn) -> None:
        """Apply changes of the transaction that ends at `lsn`.

        Raises ChangeRefused for the first that the target refuses, if there is no quarantine, and
        psycopg.Error for anything else.
        """
        for is_truncation, group in groupby(changes, lambda c: isinstance(c, Truncation)):
            if is_truncation:
                for step in group:
                    assert isinstance(step, Truncation)
                    await self._truncate(step, lsn)
            else:
                await self._settle([c for c in group if isinstance(c, Change)], lsn)

    async def check(self) -> None:
        """Find out whether all constraints hold; raise Unsettled where one does not."""
        try:
            await run(self._connection, [_SAVEPOINT, CHECK, DEFER, _RELEASE])
        except psycopg.Error as ex:
            if judge(ex) is not Verdict.REPLAY:
                raise
            await self._connection.execute(_ROLLBACK)
            diag = ex.diag
            raise Unsettled(
                (diag.schema_name or "", diag.table_name or ""), Refusal(reason(ex), ex.sqlstate)
            ) from ex

    async def _settle(self, changes: list[Change], lsn: Lsn) -> None:
        """Apply changes, but for those that wait: these enter the quarantine in source order."""
        together: list[Change] = []
        for change in changes:
            suspicion = self._suspects.get(change.table.name)
            if suspicion is None and not self._held.waits(change):
                together.append(change)
                continue
            await self._run_together(together, lsn)
            together = []
            if self._held.waits(change):
                await run(self._connection, [wait(self._slot, Waiting(change, lsn))])
                self._hold(change, whole_table=False)
            elif suspicion is not None:
                await self._refuse(change, lsn, suspicion)
        await self._run_together(together, lsn)

    async def _run_together(self, changes: list[Change], lsn: Lsn) -> None:
        if len(changes) == 1:
            await self._run_one(changes[0], lsn)
        elif changes and not await self._try(changes):
            half = len(changes) // 2
            await self._settle(changes[:half], lsn)
            await self._settle(changes[half:], lsn)

    async def _try(self, changes: list[Change]) -> bool:
        """Apply changes together; take them back and return False if the target refuses one."""
        try:
            actions: list[Action] = [self._planner.action(change) for change in changes]
        except ChangeRefused:
            return False
        try:
            await run(self._connection, [_SAVEPOINT, *actions, _RELEASE])
        except psycopg.Error as ex:
            if judge(ex) is not Verdict.REPLAY:
                raise
            await self._connection.execute(_ROLLBACK)
            return False
        return True

    async def _run_one(self, change: Change | Truncation, lsn: Lsn) -> None:
        try:
            action = self._planner.action(change)
        except ChangeRefused as ex:
            forbidden = isinstance(change, Truncation) and change.forbidden
            if forbidden or not self._quarantine:
                raise
            await self._refuse(change, lsn, Refusal(ex.message, None, whole_table=True))
            return
        await self._connection.execute(_SAVEPOINT.sql)
        try:
            await self._execute_or_repair(action, change, lsn)
        except psycopg.Error as ex:
            if judge(ex) is not Verdict.REPLAY:
                raise
            if not self._quarantine and not _is_copied(change):
                raise refusal(ex, described(change), lsn) from ex
            why = Refusal(reason(ex), ex.sqlstate)
        except ChangeRefused as ex:
            if not self._quarantine and not _is_copied(change):
                raise
            why = Refusal(ex.message, None)
        else:
            await self._connection.execute(_RELEASE.sql)
            return
        await self._connection.execute(_ROLLBACK)
        if _is_copied(change):
            await self._leave_out(change, why.reason)
        else:
            await self._refuse(change, lsn, why)

    async def _leave_out(self, change: Change | Truncation, why: str) -> None:
        """Let the copy bring a change: begun anew, since it may have passed the row already."""
        names = [table.name for table in change.tables if _comes(table)]
        await request_anew(self._connection, self._slot, names, gap=False)
        log.warning(
            "left a change out: the copy, which will bring it, begins anew",
            extra={"change": described(change), "reason": why},
        )

    async def _execute_or_repair(
        self, action: Execute, change: Change | Truncation, lsn: Lsn
    ) -> None:
        if not await self._execute(action, change) and not await self._repair(change, lsn):
            raise ChangeRefused(
                f"{described(change)}: the target lacks a row of which the source sent only the"
                f" changed columns, in the transaction that ends at {format_lsn(lsn)}",
                hint="the target was changed by somebody else: compare the table on both sides",
            )

    async def _repair(self, change: Change | Truncation, lsn: Lsn) -> bool:
        """Write a row that the target lacks as the source has it by now, if it can be asked.

        Not of a table in part: what it lacks is no mistake, and the key may be another row's now.
        """
        if self._read_row is None or isinstance(change, Truncation) or _is_copied(change):
            return False
        if not change.table.key or change.new is None:
            return False
        row = await self._read_row(change.table, change.new)
        if row is not None:
            whole = (*row, *(None for _ in change.table.policy.added))
            upsert = self._planner.statements(change.table).upsert_row(whole)
            await self._execute(upsert, change)
        came = "was read from the source" if row else "the source has deleted since"
        detail = f"{change.table}: the target lacked a row, which {came}"
        await record(self._connection, self._slot, "row repaired", f"{detail} ({format_lsn(lsn)})")
        log.warning("repaired a row that the target lacked", extra={"change": described(change)})
        self.repairs += 1
        return True

    async def _execute(self, action: Execute, change: Change | Truncation) -> bool:
        """Run a change; return False where the row that it has to meet is not there."""
        cursor = AsyncRawCursor(self._connection)
        if action.before is not None:
            await cursor.execute(action.before.sql, action.before.parameters)
        await cursor.execute(action.sql, action.parameters)
        if action.rows is not None and cursor.rowcount > action.rows:
            assert isinstance(change, Change)
            raise not_unique(change.table)
        if action.rows is None or action.at_most or cursor.rowcount == action.rows:
            return True
        if action.otherwise is None:
            return False
        await cursor.execute(action.otherwise.sql, action.otherwise.parameters)
        return True

    async def _truncate(self, step: Truncation, lsn: Lsn) -> None:
        """Empty tables; what waits of them is void then, but for tables that wait as a whole."""
        waiting = [table for table in step.tables if table.name in self._held.tables]
        for table in waiting:
            await run(self._connection, [wait_with_truncate(self._slot, table, lsn)])
        tables = tuple(table for table in step.tables if table not in waiting)
        if not tables:
            return
        await self._run_one(Truncation(tables, step.restart_identity), lsn)
        for table in tables:
            if table.name in self._held.rows and table.name not in self._held.tables:
                await run(self._connection, [release(self._slot, table, "truncated")])
                self._held.release(table.name)

    async def _refuse(self, change: Change | Truncation, lsn: Lsn, why: Refusal) -> None:
        whole = why.whole_table or isinstance(change, Truncation)
        if isinstance(change, Change) and not whole:
            # Of keys that may be equal though their texts differ, one cannot wait for the other.
            try:
                whole = not self._planner.statements(change.table).exact_key
            except ChangeRefused:
                whole = True
        why = Refusal(why.reason, why.sqlstate, whole)
        await run(self._connection, [*add(self._slot, change, lsn, why)])
        log.warning(
            "the target refuses a change, which is in quarantine now",
            extra={"change": described(change), "reason": why.reason, "lsn": format_lsn(lsn)},
        )
        self._hold(change, whole_table=whole)

    def _hold(self, change: Change | Truncation, *, whole_table: bool) -> None:
        if isinstance(change, Truncation):
            self._held.tables.update(table.name for table in change.tables)
            return
        self._held.hold_change(change)
        if whole_table:
            self._held.tables.add(change.table.name)


def _is_copied(change: Change | Truncation) -> bool:
    """Tell whether what a change leaves undone will be done: its table is being copied."""
    return any(map(_comes, change.tables))


def _comes(table: Table) -> bool:
    return table.in_part or table.destination != table.name

"""A batch applied one change at a time, in source order: what the set-based form stands in for.

Slow on purpose and rarely needed: a change runs alone, so that the one that the target refuses can
be named, with its relation, constraint, key columns and the LSN of its transaction. Never with the
row's values: the server's own message may quote them, so only its fields are passed on.
"""

from bisect import bisect_right

import psycopg
from psycopg import AsyncRawCursor

from cdc.backoff import Verdict, judge
from cdc.changes.batch import Batch, KeyChange, Segment, Truncation, resolve
from cdc.changes.relations import Key, Table
from cdc.errors import ChangeRefused
from cdc.lsn import Lsn, format_lsn
from cdc.target.plan import Planner
from cdc.target.statements import Execute
from cdc.wire.messages import UNCHANGED, Delete, Insert, Row, Update


async def replay(
    cursor: AsyncRawCursor[tuple[object, ...]], planner: Planner, batch: Batch
) -> None:
    """Run a batch's changes one by one inside the transaction that is open.

    Raises ChangeRefused for the first that the target refuses, psycopg.Error for anything else.
    """
    replayer = _Replayer(cursor, planner, batch)
    for step in batch.steps:
        match step:
            case Segment():
                for message in step.messages:
                    await replayer.change(step.tables[message.relation_id].table, message)
            case KeyChange(table, old, new):
                await replayer.update(table, old, new)
            case Truncation():
                await replayer.run(", ".join(map(str, step.tables)), planner.truncation(step))


class _Replayer:
    def __init__(
        self, cursor: AsyncRawCursor[tuple[object, ...]], planner: Planner, batch: Batch
    ) -> None:
        self._cursor = cursor
        self._planner = planner
        self._batch = batch
        self._done = 0

    async def change(self, table: Table, message: Insert | Update | Delete) -> None:
        statements = self._planner.statements(table)
        match message:
            case Insert():
                await self.run(_described(table), statements.upsert_row(message.new))
            case Update():
                old, _, new = resolve(message, table)
                await self.update(table, old, new)
            case Delete():
                key = table.key_of(message.old)
                await self.run(_described(table), statements.delete_row(key))

    async def update(self, table: Table, old: Key, new: Row) -> None:
        """Set what the source set; a whole row that the target lacks is inserted."""
        statements = self._planner.statements(table)
        whole = UNCHANGED not in new
        if whole and table.key_of(new) == old:
            await self.run(_described(table), statements.upsert_row(new))
            return
        found = await self.run(_described(table), statements.update_row(old, new))
        if found:
            return
        if not whole:
            raise ChangeRefused(
                f"{_described(table)}: the target lacks a row of which the source sent only the"
                f" changed columns, in the transaction that ends at {format_lsn(self._lsn)}",
                hint="the target was changed by somebody else: compare the table on both sides",
            )
        self._done -= 1
        await self.run(_described(table), statements.upsert_row(new))

    async def run(self, what: str, action: Execute) -> int:
        try:
            await self._cursor.execute(action.sql, action.parameters, prepare=True)
        except psycopg.Error as ex:
            if judge(ex) is not Verdict.REPLAY:
                raise
            raise refusal(ex, what, self._lsn) from ex
        self._done += 1
        return self._cursor.rowcount

    @property
    def _lsn(self) -> Lsn:
        """End of the transaction that the change at hand belongs to, if it is whole."""
        commits = self._batch.commits
        at = bisect_right(commits, self._done, key=lambda commit: commit[0])
        return commits[at][1] if at < len(commits) else self._batch.end_lsn


def _described(table: Table) -> str:
    return f"{table} (key {', '.join(table.key_columns)})"


def refusal(error: psycopg.Error, what: str, lsn: Lsn) -> ChangeRefused:
    """Return the error of a change that the target refuses, without a value of its row."""
    diag = error.diag
    where = [
        f"{name} {value}"
        for name, value in (
            ("constraint", diag.constraint_name),
            ("column", diag.column_name),
            ("type", diag.datatype_name),
        )
        if value
    ]
    reason = " ".join([f"{type(error).__name__} ({error.sqlstate})", *where])
    return ChangeRefused(
        f"the target refuses a change of {what} in the transaction that ends at"
        f" {format_lsn(lsn)}: {reason}",
        hint="make the target's table accept it (`cdc check` shows how the two differ), then start"
        " the daemon again: it goes on from this transaction",
    )

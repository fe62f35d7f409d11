"""The third way to write a batch: each source transaction as one of the target, change by change.

So a refused change leaves those before it applied, and constraints are checked when the source
checked them. What is refused ends the daemon, or goes into the quarantine (`replay`); then the
transaction begins anew with what is known of it, until the rest of it holds.
"""

from collections.abc import Sequence

import psycopg

from cdc.backoff import Verdict, judge
from cdc.changes.batch import Batch, TransactionEnd
from cdc.changes.change import Change, each_change, tables_of
from cdc.changes.fold import Truncation
from cdc.changes.held import Held, by_transaction
from cdc.changes.relations import QualifiedName
from cdc.target.refusal import Refusal, described, refusal
from cdc.target.replay import ReadRow, Replay, Unsettled
from cdc.target.session import Session, is_stale
from cdc.target.transaction import Transaction


class OneByOne:
    """Who writes so, by a session and in its transaction."""

    def __init__(
        self,
        session: Session,
        transaction: Transaction,
        *,
        quarantine: bool,
        read_row: ReadRow | None,
    ) -> None:
        self._session = session
        self._transaction = transaction
        self._quarantine = quarantine
        self._read_row = read_row
        self.repairs = 0
        """Rows that the target lacked, read from the source."""

    async def apply(self, batch: Batch) -> None:
        """Apply a batch; a part of a large transaction stays in the one that is open."""
        if self._transaction.is_open or not batch.final:
            await self._apply_part(batch)
            if batch.final:
                every = list(each_change(batch.steps))
                await self._commit(batch.transactions[-1], len(batch.transactions), every)
            self._transaction.note(batch)
            return
        for end, changes in by_transaction(batch):
            if end is not None and (changes or end is batch.transactions[-1]):
                await self._apply_transaction(end, changes)

    async def _apply_part(self, batch: Batch) -> None:
        """Apply what a batch holds of a large transaction, and of those before it.

        The parts before stand: in quarantine goes what of this one breaks a constraint at the end.
        """
        suspects: dict[QualifiedName, Refusal] = {}
        every = list(each_change(batch.steps))
        while True:
            held = self._session.held.copy()
            await self._begin(part=True)
            replay = self._replaying(held, suspects)
            try:
                for end, changes in by_transaction(batch):
                    await replay.run(changes, batch.open_lsn if end is None else end.lsn)
                await self._session.run(self._session.require_unchanged(tables_of(batch.steps)))
                if self._quarantine and batch.final:
                    await replay.check()
            except Unsettled as ex:
                await self._session.connection.execute(
                    b"rollback to savepoint part" if self._transaction.is_open else b"rollback"
                )
                suspects = ex.more_suspects(every, suspects, batch.end_lsn)
            else:
                break
        self._session.held = held
        self.repairs += replay.repairs

    async def _apply_transaction(
        self, end: TransactionEnd, changes: list[Change | Truncation]
    ) -> None:
        suspects: dict[QualifiedName, Refusal] = {}
        names = {table.name for change in changes for table in change.tables}
        while True:
            held = self._session.held.copy()
            await self._begin(part=False)
            replay = self._replaying(held, suspects)
            try:
                await replay.run(changes, end.lsn)
                await self._session.run(self._session.require_unchanged(names))
                if self._quarantine:
                    await replay.check()
                await self._commit(end, 1, changes)
            except Unsettled as ex:
                await self._session.connection.execute(b"rollback")
                suspects = ex.more_suspects(changes, suspects, end.lsn)
            except psycopg.Error as ex:
                if not is_stale(ex):
                    raise
                # The transactions before this one are committed: only this one begins anew.
                await self._session.connection.execute(b"rollback")
                await self._session.refresh(ex, names)
            else:
                break
        self._session.held = held
        self.repairs += replay.repairs
        self._transaction.committed(end.lsn, 1, len(changes))

    async def _begin(self, *, part: bool) -> None:
        deferrable = self._session.planner.deferrable
        await self._session.run(self._transaction.begin(part=part, deferrable=deferrable))

    def _replaying(self, held: Held, suspects: dict[QualifiedName, Refusal]) -> Replay:
        return Replay(
            self._session.connection,
            self._session.planner,
            self._session.slot,
            held,
            quarantine=self._quarantine,
            suspects=suspects,
            read_row=self._read_row,
        )

    async def _commit(
        self, end: TransactionEnd, transactions: int, changes: Sequence[Change | Truncation]
    ) -> None:
        try:
            await self._session.run(self._transaction.end(end, transactions, len(changes)))
        except psycopg.Error as ex:
            if judge(ex) is Verdict.REPLAY:  # a deferred constraint speaks at the commit
                raise refusal(ex, _meant(ex, changes), end.lsn) from ex
            raise


def _meant(error: psycopg.Error, changes: Sequence[Change | Truncation]) -> str | None:
    """Return what may be said of the changes that a deferred constraint means."""
    name = error.diag.schema_name or "", error.diag.table_name or ""
    of_table = (c for c in changes if isinstance(c, Change) and c.table.name == name)
    return next(map(described, of_table), None)

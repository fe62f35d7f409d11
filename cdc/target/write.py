"""Writes batches in the first of three ways that the target takes, the checkpoint with them.

    as a set      net changes, many rows a statement (`plan`)
    in order      one statement a change, in source order, together
    one by one    each source transaction for itself, its changes by halves (`replay`), to name the
                  one that is refused: the end, or a case for the quarantine

Changes of rows that wait in the quarantine go there as well, by the same transaction. What this
session believes of the target, others may have changed meanwhile: a table's definition, or what the
quarantine holds. The target then says so before the commit (`STALE`), what is believed is read
again, and the batch is written anew.
"""

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace

import psycopg
from psycopg.pq import TransactionStatus

from cdc.backoff import Verdict, judge
from cdc.changes.batch import Batch, TransactionEnd
from cdc.changes.change import Change, each_change, tables_of
from cdc.changes.fold import Truncation
from cdc.changes.held import Held, Waiting, by_transaction, set_aside
from cdc.changes.relations import QualifiedName
from cdc.errors import ChangeRefused
from cdc.lsn import Lsn, format_lsn
from cdc.target import fingerprint, quarantine
from cdc.target.action import Action, Execute
from cdc.target.checkpoint import Checkpoint, fenced
from cdc.target.plan import Plan
from cdc.target.refusal import Refusal, described, refusal
from cdc.target.replay import ReadRow, Replay, Unsettled
from cdc.target.session import Session
from cdc.target.transaction import Transaction

log = logging.getLogger(__name__)

_STALE = {quarantine.STALE, fingerprint.STALE}


class Writer:
    """What one session writes, from the checkpoint that it found on."""

    def __init__(
        self,
        session: Session,
        checkpoint: Checkpoint,
        *,
        quarantine: bool = False,
        read_row: ReadRow | None = None,
    ) -> None:
        self._session = session
        self._quarantine = quarantine
        self._read_row = read_row
        self._transaction = Transaction()
        self.checkpoint = checkpoint
        """As it was last committed."""
        self.repairs = 0
        """Rows that the target lacked, read from the source."""

    @property
    def in_transaction(self) -> bool:
        """A large transaction is open: what was written of it is not committed."""
        return self._transaction.is_open

    async def write(self, batch: Batch) -> bool:
        """Write one batch; return True if it had to be replayed.

        Raises psycopg.Error or CdcError; then only a new session helps.
        """
        while True:
            try:
                return await self._write_once(batch)
            except psycopg.Error as ex:
                if ex.sqlstate not in _STALE:
                    raise
                await self._undo(ex, batch)
                await self._refresh(ex, tables_of(batch.steps))

    async def move(self, lsn: Lsn) -> Checkpoint:
        """Move the checkpoint without a change, and return it."""
        try:
            await self._session.run(self._transaction.move(self.checkpoint, lsn))
        except psycopg.Error as ex:
            self._raise_if_fenced(ex)
            raise
        self.checkpoint = replace(self.checkpoint, lsn=lsn)
        return self.checkpoint

    async def _refresh(self, stale: psycopg.Error, names: Collection[QualifiedName]) -> None:
        """Read again what was found to be another by now."""
        if stale.sqlstate == quarantine.STALE:
            await self._session.load_held()
        else:
            log.info("tables of the target were altered: reading their definitions again")
            await self._session.reload(names)

    async def _write_once(self, batch: Batch) -> bool:
        held, waiting, rest = self._session.held, list[Waiting](), batch
        if held.concerns(batch.steps):
            held = held.copy()
            parts = set_aside(batch, held)
            if parts is None:
                await self._plan(batch)  # for a catalog that is new enough
                await self._replay(batch)
                return True
            rest, waiting = parts
        replayed = not await self._write_set(rest, waiting)
        if replayed:
            # Unique values that swapped owners, say: in source order each change stands alone.
            plan = self._plan_in_order(rest)
            if plan is None or not await self._try(plan, rest, waiting):
                await self._replay(batch)
                return True
        self._session.held = held
        return replayed

    async def _write_set(self, batch: Batch, waiting: list[Waiting]) -> bool:
        """Write net changes; return False where these cannot be written, or are refused."""
        while True:
            plan = await self._plan(batch)
            if plan is None:
                return False
            if await self._try(plan, batch, waiting):
                return True
            if batch.final or not self._transaction.checks_parts:
                return False
            # Perhaps what it leaves open, a later part mends: then that is no reason to replay.
            self._transaction.checks_parts = False

    async def _plan(self, batch: Batch) -> Plan | None:
        """Return how to write a batch as a set; None where it has to be replayed."""
        self._session.planner.forget_fresh()
        try:
            return self._session.planner.plan(batch.steps)
        except ChangeRefused:
            # The table or column may be newer than the session, or not be prepared yet.
            await self._session.reload(tables_of(batch.steps))
        try:
            return self._session.planner.plan(batch.steps)
        except ChangeRefused as ex:
            if self._quarantine:
                return None
            at = format_lsn(batch.end_lsn or batch.open_lsn)
            raise ChangeRefused(f"{ex.message} (in the changes up to {at})", hint=ex.hint) from ex

    def _plan_in_order(self, batch: Batch) -> Plan | None:
        try:
            return Plan(actions=list(self._session.planner.in_source_order(batch)))
        except ChangeRefused:
            return None

    async def _try(self, plan: Plan, batch: Batch, waiting: list[Waiting]) -> bool:
        """Write a plan; take it back and return False if the target refuses a statement of it."""
        try:
            await self._write(plan, batch, waiting)
        except psycopg.Error as ex:
            self._raise_if_fenced(ex)
            if judge(ex) is not Verdict.REPLAY:
                raise
            log.debug("replaying a batch in source order", extra={"sqlstate": ex.sqlstate})
            await self._undo(ex, batch)
            return False
        return True

    async def _write(self, plan: Plan, batch: Batch, waiting: list[Waiting]) -> None:
        actions = self._begin(part=not batch.final)
        actions += [quarantine.wait(self._session.slot, one) for one in waiting]
        for statements, copy in plan.stages:
            actions.append(Execute(statements.create_stage))
            if self._transaction.is_open:
                actions.append(Execute(statements.clear_stage))
            actions.append(copy)
        actions += plan.actions
        actions += self._session.require_unchanged(tables_of(batch.steps))
        actions += self._transaction.check(
            part=not batch.final, deferrable=self._session.planner.deferrable
        )
        if batch.final:
            actions += self._end(batch.transactions[-1], len(batch.transactions), batch.changes)
        await self._session.run(actions)
        self._note(batch)

    async def _undo(self, error: psycopg.Error, batch: Batch) -> None:
        """Take back what this batch wrote: all of the transaction, or its last part."""
        connection = self._session.connection
        if not self._transaction.is_open:
            await connection.execute(b"rollback")
        elif connection.info.transaction_status is TransactionStatus.IDLE:
            # A deferred constraint spoke at the COMMIT, and took the parts before with it.
            raise refusal(error, None, batch.end_lsn) from error
        else:
            await connection.execute(b"rollback to savepoint part")

    async def _replay(self, batch: Batch) -> None:
        """Apply a batch change by change: each source transaction as one of the target.

        So a refused change leaves those before it applied, and constraints are checked when the
        source checked them. A part of a large transaction stays in the one that is open.
        """
        if self._transaction.is_open or not batch.final:
            await self._replay_part(batch)
            if batch.final:
                every = list(each_change(batch.steps))
                await self._commit(batch.transactions[-1], len(batch.transactions), every)
            self._note(batch)
            return
        for end, changes in by_transaction(batch):
            if end is not None and (changes or end is batch.transactions[-1]):
                await self._replay_transaction(end, changes)

    async def _replay_part(self, batch: Batch) -> None:
        """Apply what a batch holds of a large transaction, and of those before it.

        The parts before stand: in quarantine goes what of this one breaks a constraint at the end.
        """
        suspects: dict[QualifiedName, Refusal] = {}
        every = list(each_change(batch.steps))
        while True:
            held = self._session.held.copy()
            await self._session.run(self._begin(part=True))
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

    async def _replay_transaction(
        self, end: TransactionEnd, changes: list[Change | Truncation]
    ) -> None:
        suspects: dict[QualifiedName, Refusal] = {}
        names = {table.name for change in changes for table in change.tables}
        while True:
            held = self._session.held.copy()
            await self._session.run(self._begin(part=False))
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
                if ex.sqlstate not in _STALE:
                    raise
                # The transactions before this one are committed: only this one begins anew.
                await self._session.connection.execute(b"rollback")
                await self._refresh(ex, names)
            else:
                break
        self._session.held = held
        self.repairs += replay.repairs
        self.checkpoint = self._transaction.committed(self.checkpoint, end.lsn, 1, len(changes))

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
            await self._session.run(self._end(end, transactions, len(changes)))
        except psycopg.Error as ex:
            self._raise_if_fenced(ex)
            if judge(ex) is Verdict.REPLAY:  # a deferred constraint speaks at the commit
                raise refusal(ex, _meant(ex, changes), end.lsn) from ex
            raise

    def _begin(self, *, part: bool) -> list[Action]:
        return self._transaction.begin(part=part, deferrable=self._session.planner.deferrable)

    def _end(self, end: TransactionEnd, transactions: int, changes: int) -> list[Action]:
        return self._transaction.end(self.checkpoint, end, transactions, changes)

    def _note(self, batch: Batch) -> None:
        """Keep count of what was committed, or of what the open transaction holds."""
        if not batch.final:
            self._transaction.keep(batch)
            return
        self.checkpoint = self._transaction.committed(
            self.checkpoint, batch.end_lsn, len(batch.transactions), batch.changes
        )

    def _raise_if_fenced(self, error: psycopg.Error) -> None:
        if error.sqlstate == "CD001":
            raise fenced(self._session.slot) from error


def _meant(error: psycopg.Error, changes: Sequence[Change | Truncation]) -> str | None:
    """Return what may be said of the changes that a deferred constraint means."""
    name = error.diag.schema_name or "", error.diag.table_name or ""
    of_table = (c for c in changes if isinstance(c, Change) and c.table.name == name)
    return next(map(described, of_table), None)

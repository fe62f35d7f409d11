"""Writes batches in the first of three ways that the target takes, the checkpoint with them.

    as a set      net changes, many rows a statement (`plan`)
    in order      one statement a change, in source order, together
    one by one    each source transaction for itself (`one_by_one`), its changes by halves, to name
                  the one that is refused: the end, or a case for the quarantine

Changes of rows that wait in the quarantine go there as well, by the same transaction. What this
session believes of the target, others may have changed meanwhile: a table's definition, or what the
quarantine holds. The target then says so before the commit (`STALE`), what is believed is read
again, and the batch is written anew.
"""

import logging
from dataclasses import replace

import psycopg
from psycopg.pq import TransactionStatus

from cdc.backoff import Verdict, judge
from cdc.changes.batch import Batch
from cdc.changes.change import tables_of
from cdc.changes.held import Waiting, set_aside
from cdc.errors import ChangeRefused
from cdc.lsn import Lsn, format_lsn
from cdc.target import quarantine
from cdc.target.action import Execute
from cdc.target.checkpoint import Checkpoint
from cdc.target.one_by_one import OneByOne
from cdc.target.plan import Plan
from cdc.target.refusal import refusal
from cdc.target.replay import ReadRow
from cdc.target.session import Session, is_stale
from cdc.target.transaction import Transaction

log = logging.getLogger(__name__)


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
        self._transaction = Transaction(checkpoint)
        self._one_by_one = OneByOne(
            session, self._transaction, quarantine=quarantine, read_row=read_row
        )

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint as it was last committed."""
        return self._transaction.checkpoint

    @property
    def repairs(self) -> int:
        """Rows that the target lacked, read from the source."""
        return self._one_by_one.repairs

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
                if not is_stale(ex):
                    raise
                await self._undo(ex, batch)
                await self._session.refresh(ex, tables_of(batch.steps))

    async def move(self, lsn: Lsn) -> Checkpoint:
        """Move the checkpoint without a change, and return it."""
        await self._session.run(self._transaction.move(lsn))
        self._transaction.checkpoint = replace(self.checkpoint, lsn=lsn)
        return self.checkpoint

    async def _write_once(self, batch: Batch) -> bool:
        held, waiting, rest = self._session.held, list[Waiting](), batch
        if held.concerns(batch.steps):
            held = held.copy()
            parts = set_aside(batch, held)
            if parts is None:
                await self._plan(batch)  # for a catalog that is new enough
                await self._one_by_one.apply(batch)
                return True
            rest, waiting = parts
        replayed = not await self._write_set(rest, waiting)
        if replayed:
            # Unique values that swapped owners, say: in source order each change stands alone.
            plan = self._plan_in_order(rest)
            if plan is None or not await self._try(plan, rest, waiting):
                await self._one_by_one.apply(batch)
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
            if judge(ex) is not Verdict.REPLAY:
                raise
            log.debug("replaying a batch in source order", extra={"sqlstate": ex.sqlstate})
            await self._undo(ex, batch)
            return False
        return True

    async def _write(self, plan: Plan, batch: Batch, waiting: list[Waiting]) -> None:
        part, deferrable = not batch.final, self._session.planner.deferrable
        actions = self._transaction.begin(part=part, deferrable=deferrable)
        actions += [quarantine.wait(self._session.slot, one) for one in waiting]
        for statements, copy in plan.stages:
            actions.append(Execute(statements.create_stage))
            if self._transaction.is_open:
                actions.append(Execute(statements.clear_stage))
            actions.append(copy)
        actions += plan.actions
        actions += self._session.require_unchanged(tables_of(batch.steps))
        actions += self._transaction.check(part=part, deferrable=deferrable)
        if batch.final:
            count = len(batch.transactions)
            actions += self._transaction.end(batch.transactions[-1], count, batch.changes)
        await self._session.run(actions)
        self._transaction.note(batch)

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

"""Writes batches to the target, each in one transaction with the checkpoint that it moves.

`Target` owns the one session that writes. It promises: after `apply` returns, the batch is durable
and so is its checkpoint; after it raises, neither is, or the connection was lost and `open` finds
out by reading the checkpoint. A batch that the target refuses in its set-based form is replayed
change by change in source order before anyone is told: first many in a round trip, then, if that
fails too, one by one and each source transaction for itself, to name the change.

A large transaction comes in several batches. Its target transaction stays open between them, each
part under a savepoint, and commits with the last one.

It does not retry (`sync.pipeline` does), and it never asks the target anything between batches: a
Neon compute that is left alone may sleep.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice

import psycopg
from psycopg import AsyncRawCursor
from psycopg.pq import TransactionStatus

from cdc.backoff import Verdict, described, judge
from cdc.changes.batch import Batch, TransactionEnd
from cdc.errors import ChangeRefused
from cdc.lsn import Lsn, format_lsn
from cdc.postgres.catalog import Catalog, load_catalog
from cdc.postgres.ordering import QualifiedName
from cdc.postgres.session import Connection
from cdc.target.checkpoint import Checkpoint, advance, claim, fenced
from cdc.target.plan import DEFER, Action, Plan, Planner, tables_of
from cdc.target.replay import refusal, replay
from cdc.target.session import open_session, run
from cdc.target.statements import Execute
from cdc.target.tables import prepare_tables

log = logging.getLogger(__name__)

CANCEL_S = 1.0

_BEGIN = Execute(b"begin")
_SAVEPOINT = Execute(b"savepoint part")
_COMMIT = Execute(b"commit")


class Target:
    """The session that writes to the target, and the checkpoint that it holds."""

    def __init__(self, dsn: str, schemas: Sequence[str], slot: str) -> None:
        self._dsn = dsn
        self._schemas = schemas
        self._slot = slot
        self._connection: Connection | None = None
        self._planner: Planner | None = None
        self._catalog = Catalog()
        self._checkpoint: Checkpoint | None = None
        self._certain = False
        self._in_transaction = False
        self._transactions = 0
        self._changes = 0

    @property
    def connected(self) -> bool:
        """A session is open."""
        return self._connection is not None

    @property
    def in_transaction(self) -> bool:
        """A large transaction is open: what was applied of it is not committed."""
        return self._in_transaction

    @property
    def primary_keys(self) -> Mapping[QualifiedName, tuple[str, ...]]:
        """The primary keys of the target's tables, as they were when the session began."""
        return self._catalog.primary_keys()

    @property
    def settled(self) -> bool:
        """The session is not in the middle of anything."""
        return self._certain and not self._in_transaction

    @property
    def known_checkpoint(self) -> Checkpoint | None:
        """The checkpoint; None where only the target knows: at first, or with a COMMIT in doubt."""
        return self._checkpoint if self._certain else None

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint as last read from the target or committed to it."""
        assert self._checkpoint is not None, "open first"
        return self._checkpoint

    async def open(self) -> Checkpoint:
        """Connect where there is no session, and return the checkpoint that the target holds.

        Each session claims the checkpoint anew: what the one before it may still have under way is
        then committed or refused. Raises Fenced if another daemon has claimed it meanwhile.
        """
        if self._connection is not None:
            return self.checkpoint
        connection = await open_session(self._dsn)
        try:
            await self._start(connection)
        except BaseException:
            await connection.close()
            raise
        self._connection = connection
        return self.checkpoint

    async def _start(self, connection: Connection) -> None:
        self._catalog = await load_catalog(connection, self._schemas)
        self._planner = Planner(self._catalog)
        epoch = None if self._checkpoint is None else self._checkpoint.epoch
        self._checkpoint = await claim(connection, self._slot, epoch)
        self._certain = True

    async def close(self) -> None:
        """End the session; what was not committed is gone, on the target as here."""
        connection, self._connection = self._connection, None
        self._in_transaction = False
        self._transactions = self._changes = 0
        if connection is not None:
            await connection.close()

    async def abandon(self) -> None:
        """Cut off the session in the middle of a statement, whether the server answers or not."""
        connection = self._connection
        if connection is None:
            return
        try:
            await connection.cancel_safe(timeout=CANCEL_S)
        except psycopg.Error as ex:
            log.info("the target does not take a cancellation", extra={"error": described(ex)})
        # Closed at once: psycopg's own way out would ask the server again, and wait.
        connection.pgconn.finish()

    async def apply(self, batch: Batch) -> bool:
        """Write one batch; return True if it had to be replayed.

        Raises psycopg.Error or CdcError, and then `close` is all that helps.
        """
        await self.open()
        plan = await self._plan(batch)
        assert self._planner is not None
        # Until the target has answered, nobody here knows whether it has committed.
        self._certain = False
        replayed = plan is None or not await self._try(plan, batch)
        if replayed:
            # Unique values that swapped owners, say: in source order each change stands alone.
            plan = Plan(actions=list(self._planner.in_source_order(batch)))
            if not await self._try(plan, batch):
                await self._replay(batch, self._planner)
        self._certain = True
        return replayed

    async def _plan(self, batch: Batch) -> Plan | None:
        assert self._planner is not None
        try:
            return self._planner.plan(batch.steps)
        except ChangeRefused:
            # The table or column may be newer than the session, or not be prepared yet.
            await self._reload(batch)
        try:
            return self._planner.plan(batch.steps)
        except ChangeRefused as ex:
            at = format_lsn(batch.end_lsn or batch.open_lsn)
            raise ChangeRefused(f"{ex.message} (in the changes up to {at})", hint=ex.hint) from ex

    async def _reload(self, batch: Batch) -> None:
        """Read the catalog again, and make the batch's tables take rows as they are."""
        assert self._connection is not None
        found = await load_catalog(self._connection, self._schemas)
        names = tables_of(batch.steps)
        changed = [table for name, table in found.tables.items() if name in names]
        if await prepare_tables(self._connection, self._slot, changed):
            found = await load_catalog(self._connection, self._schemas)
        self._catalog = found
        self._planner = Planner(found)

    async def _try(self, plan: Plan, batch: Batch) -> bool:
        """Write a plan; take it back and return False if the target refuses a statement of it."""
        try:
            await self._write(plan, batch)
        except psycopg.Error as ex:
            self._raise_if_fenced(ex)
            if judge(ex) is not Verdict.REPLAY:
                raise
            log.debug("replaying a batch in source order", extra={"sqlstate": ex.sqlstate})
            await self._undo(ex, batch)
            return False
        return True

    async def _write(self, plan: Plan, batch: Batch) -> None:
        actions = self._begin(part=not batch.final)
        for statements, copy in plan.stages:
            actions.append(Execute(statements.create_stage))
            if self._in_transaction:
                actions.append(Execute(statements.clear_stage))
            actions.append(copy)
        actions += plan.actions
        if batch.final:
            actions += self._end(batch.transactions[-1], len(batch.transactions), batch.changes)
        await self._run(actions)
        self._note(batch)

    async def _undo(self, error: psycopg.Error, batch: Batch) -> None:
        """Take back what this batch wrote: all of the transaction, or its last part."""
        assert self._connection is not None
        if not self._in_transaction:
            await self._connection.execute(b"rollback")
        elif self._connection.info.transaction_status is TransactionStatus.IDLE:
            # A deferred constraint spoke at the COMMIT, and took the parts before with it.
            raise refusal(error, None, batch.end_lsn) from error
        else:
            await self._connection.execute(b"rollback to savepoint part")

    async def _replay(self, batch: Batch, planner: Planner) -> None:
        """Apply a batch change by change: each source transaction as one of the target.

        So a refused change leaves those before it applied, and constraints are checked when the
        source checked them. A part of a large transaction stays in the one that is open.
        """
        assert self._connection is not None
        cursor = AsyncRawCursor(self._connection)
        changes = planner.changes(batch.steps)
        if self._in_transaction or not batch.final:
            await self._run(self._begin(part=True))
            await replay(cursor, changes, batch.open_lsn)
            if batch.final:
                await self._commit(batch.transactions[-1], len(batch.transactions), batch.changes)
            self._note(batch)
            return
        done = 0
        for end in batch.transactions:
            if end.changes > done or end is batch.transactions[-1]:
                await self._run(self._begin(part=False))
                await replay(cursor, islice(changes, end.changes - done), end.lsn)
                await self._commit(end, 1, end.changes - done)
                self._note_commit(end.lsn, 1, end.changes - done)
            done = end.changes

    async def _commit(self, end: TransactionEnd, transactions: int, changes: int) -> None:
        try:
            await self._run(self._end(end, transactions, changes))
        except psycopg.Error as ex:
            self._raise_if_fenced(ex)
            if judge(ex) is Verdict.REPLAY:  # a deferred constraint speaks at the commit
                raise refusal(ex, None, end.lsn) from ex
            raise

    def _begin(self, *, part: bool) -> list[Action]:
        actions: list[Action] = []
        if not self._in_transaction:
            actions.append(_BEGIN)
            if self._planner is not None and self._planner.deferrable:
                actions.append(DEFER)
        if self._in_transaction or part:
            actions.append(_SAVEPOINT)
        return actions

    def _end(self, end: TransactionEnd, transactions: int, changes: int) -> list[Action]:
        move = advance(
            self.checkpoint,
            end.lsn,
            commit_time=end.commit_time,
            transactions=self._transactions + transactions,
            changes=self._changes + changes,
        )
        return [move, _COMMIT]

    def _note(self, batch: Batch) -> None:
        """Keep count of what was committed, or of what the open transaction holds."""
        self._in_transaction = not batch.final
        if batch.final:
            self._note_commit(batch.end_lsn, len(batch.transactions), batch.changes)
        else:
            self._transactions += len(batch.transactions)
            self._changes += batch.changes

    def _note_commit(self, lsn: Lsn, transactions: int, changes: int) -> None:
        self._checkpoint = replace(
            self.checkpoint,
            lsn=lsn,
            transactions=self.checkpoint.transactions + self._transactions + transactions,
            changes=self.checkpoint.changes + self._changes + changes,
        )
        self._transactions = self._changes = 0

    def _raise_if_fenced(self, error: psycopg.Error) -> None:
        if error.sqlstate == "CD001":
            raise fenced(self._slot) from error

    async def _run(self, actions: list[Action]) -> None:
        assert self._connection is not None
        await run(self._connection, actions)

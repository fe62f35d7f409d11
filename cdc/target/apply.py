"""The session that writes to the target, from its begin to its end, and the checkpoint it holds.

`Target` owns the one session that writes. It promises: after `apply` returns, the batch is durable
and so is its checkpoint; after it raises, neither is, or the connection was lost and `open` finds
out by reading the checkpoint. How a batch is written is up to `write`.

It does not retry (`sync.applier` does), and it never asks the target anything between batches: a
Neon compute that is left alone may sleep.
"""

import logging
from collections.abc import Mapping, Sequence

import psycopg

from cdc.backoff import described
from cdc.changes.batch import Batch
from cdc.changes.change import tables_of
from cdc.changes.relations import QualifiedName
from cdc.counts import Counts
from cdc.lsn import Lsn
from cdc.postgres.session import Connection
from cdc.target.checkpoint import Checkpoint, claim, require_claim
from cdc.target.connection import connect_target
from cdc.target.ledger import count_failovers, count_open_entries
from cdc.target.replay import ReadRow
from cdc.target.session import Session
from cdc.target.sole import become_sole_writer
from cdc.target.write import Writer

log = logging.getLogger(__name__)

CANCEL_S = 1.0


class Target:
    """The session that writes to the target, and the checkpoint that it holds."""

    def __init__(
        self,
        dsn: str,
        schemas: Sequence[str],
        slot: str,
        counts: Counts,
        *,
        quarantine: bool = False,
        read_row: ReadRow | None = None,
    ) -> None:
        self._dsn = dsn
        self._schemas = schemas
        self._slot = slot
        self._counts = counts
        self._session: Session | None = None
        self._unclaimed: Session | None = None
        self._writer: Writer | None = None
        self._primary_keys: Mapping[QualifiedName, tuple[str, ...]] = {}
        self._checkpoint: Checkpoint | None = None
        self._certain = False
        self._written: set[QualifiedName] = set()
        self._quarantine = quarantine
        self._read_row = read_row

    @property
    def connected(self) -> bool:
        """A session is open."""
        return self._session is not None

    @property
    def in_transaction(self) -> bool:
        """A large transaction is open: what was applied of it is not committed."""
        return self._writer is not None and self._writer.in_transaction

    @property
    def primary_keys(self) -> Mapping[QualifiedName, tuple[str, ...]]:
        """The primary keys of the target's tables, as they were when the session began."""
        return self._primary_keys

    @property
    def settled(self) -> bool:
        """The session is not in the middle of anything."""
        return self._certain and not self.in_transaction

    @property
    def known_checkpoint(self) -> Checkpoint | None:
        """The checkpoint; None where only the target knows: at first, or with a COMMIT in doubt."""
        return self._checkpoint if self._certain else None

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint as last read from the target or committed to it."""
        assert self._checkpoint is not None, "open first"
        return self._checkpoint

    async def connect(self) -> Connection:
        """Connect and read the catalog, so that `open` has nothing to do but to claim.

        Whoever asks may use the connection until then. Raises psycopg.OperationalError.
        """
        if self._unclaimed is None:
            self._unclaimed = await Session.open(self._dsn, self._slot, self._schemas)
        return self._unclaimed.connection

    async def open(self) -> Checkpoint:
        """Connect where there is no session, and return the checkpoint that the target holds.

        Each session claims the checkpoint anew: what the one before it may still have under way is
        then committed or refused. Raises Fenced if another daemon has claimed it meanwhile.
        """
        if self._session is not None:
            return self.checkpoint
        session, self._unclaimed = self._unclaimed, None
        if session is None:
            session = await Session.open(self._dsn, self._slot, self._schemas)
        try:
            # Before the claim: whoever ends by a promotion knows of it.
            self._counts.failovers = await count_failovers(session.connection, self._slot)
            epoch = None if self._checkpoint is None else self._checkpoint.epoch
            if epoch is not None:
                await require_claim(session.connection, self._slot, epoch)
            await become_sole_writer(session.connection, self._slot, first=epoch is None)
            self._checkpoint = await claim(session.connection, self._slot, epoch)
            await session.load_held()
            await session.prepare(self._written)
            await self.look_at_ledger(session.connection)
        except BaseException:
            await session.connection.close()
            raise
        self._primary_keys = session.catalog.primary_keys()
        self._writer = Writer(
            session, self._checkpoint, quarantine=self._quarantine, read_row=self._read_row
        )
        self._certain = True
        self._session = session
        self._counts.quarantined = session.held.size
        return self._checkpoint

    async def look_at_ledger(self, connection: Connection) -> None:
        """Note how much is open there, on a session that is open anyway."""
        self._counts.open_entries = await count_open_entries(connection, self._slot)

    async def require_unclaimed(self) -> None:
        """Raise Fenced if another daemon has claimed the checkpoint since we did."""
        if self._checkpoint is not None:
            async with await connect_target(self._dsn) as connection:
                await require_claim(connection, self._slot, self._checkpoint.epoch)

    async def close(self) -> None:
        """End the session; what was not committed is gone, on the target as here."""
        sessions = self._session, self._unclaimed
        self._session = self._unclaimed = self._writer = None
        for session in sessions:
            if session is not None:
                await session.connection.close()

    async def abandon(self) -> None:
        """Cut off the session in the middle of a statement, whether the server answers or not."""
        if self._session is None:
            return
        connection = self._session.connection
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
        self._written |= tables_of(batch.steps)
        await self.open()
        assert self._writer is not None
        assert self._session is not None
        session, writer, repairs = self._session, self._writer, self._writer.repairs
        # Until the target has answered, nobody here knows whether it has committed.
        self._certain = False
        try:
            replayed = await writer.write(batch)
        finally:
            self._checkpoint = writer.checkpoint
            self._counts.repairs += writer.repairs - repairs
            self._counts.quarantined = session.held.size
        self._certain = True
        return replayed

    async def move(self, lsn: Lsn) -> None:
        """Move the checkpoint: nothing before `lsn` is missing on the target."""
        at = (await self.open()).lsn
        assert at is not None
        assert self._writer is not None
        if lsn > at:
            self._certain = False
            self._checkpoint = await self._writer.move(lsn)
            self._certain = True

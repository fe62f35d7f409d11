"""What is looked at on the source now and then while its stream runs, one thing after the other.

Who stands by, who verifies, how much WAL the slot holds back, tables that nobody has heard of: none
of them sends a sign through the stream. The connection is the lookout's alone.

The source waits for the locks of others where it is asked which tables are published (it opens
each), and how many rows a partitioned one has. So a table that somebody has for himself
(ALTER TABLE, VACUUM FULL) could hold up all the rest: such a look is given up, and made again.
"""

import asyncio
import contextlib
import logging
import math
from time import monotonic

import psycopg

from cdc.postgres.session import Connection
from cdc.progress import Progress
from cdc.settings import Settings
from cdc.source import budget
from cdc.source.copied import estimate_rows, load_copied_tables
from cdc.source.lease import has_follower, has_standby
from cdc.source.slot import HEARTBEAT, emit_barrier
from cdc.sync.adopt import adopt_missing_tables
from cdc.sync.copier import Copier
from cdc.sync.standby import Standby
from cdc.sync.vantage import Vantage
from cdc.vitals import Vitals

log = logging.getLogger(__name__)

# How often the source is asked how far its WAL is, and whether another daemon stands by.
LOOK_INTERVAL_S = 2.0

# How often a heartbeat is sent, if the one before has arrived: a commit on the source each time.
HEARTBEAT_INTERVAL_S = 10.0

# How often the published tables are compared with those that are copied.
TABLES_INTERVAL_S = 30.0

# What waits for a lock for longer is left for the next time: the WAL is looked at meanwhile.
_LOCK_TIMEOUT = b"set lock_timeout = '500ms'"


class Lookout:
    """Looks after one stream."""

    def __init__(
        self,
        source: Connection,
        settings: Settings,
        vitals: Vitals,
        *,
        progress: Progress,
        copier: Copier | None = None,
        standby: Standby | None = None,
        vantage: Vantage | None = None,
    ) -> None:
        """None of the last three: the stream goes by way of the spool."""
        self._source = source
        self._settings = settings
        self._vitals = vitals
        self._heartbeat = progress.heartbeat
        self._progress = progress
        self._copier = copier
        self._standby = standby
        self._vantage = vantage
        self._roused = asyncio.Event()
        self._kept_out = False

    async def run(self) -> None:
        """Look until cancelled."""
        sent = looked = -math.inf
        while True:
            await budget.look(self._source, self._settings.source.slot, self._vitals.wal)
            if monotonic() - sent > HEARTBEAT_INTERVAL_S and self._copier is not None:
                sent = monotonic()
                await self._send_heartbeat()
            if self._standby is not None:
                name = self._settings.source.slot
                present = await has_standby(self._source, name)
                followed = present and await has_follower(self._source, name)
                self._standby.heed(present=present, followed=followed)
            if self._vantage is not None:
                await self._vantage.look(self._source)
            if monotonic() - looked > TABLES_INTERVAL_S and await self._look_unless_locked():
                looked = monotonic()
            await self._rest()

    def rouse(self) -> None:
        """Look at once."""
        self._roused.set()

    async def _rest(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_INTERVAL_S):
                await self._roused.wait()
        self._roused.clear()

    async def _look_unless_locked(self) -> bool:
        """Look at the tables; return False where a lock was in the way."""
        try:
            await self.look_for_tables()
        except psycopg.errors.LockNotAvailable:
            if not self._kept_out:
                log.info("a table of the source is locked: looking for new ones later")
            self._kept_out = True
            return False
        self._kept_out = False
        return True

    async def _send_heartbeat(self) -> None:
        """Write a message into the source's WAL, unless the last one is still on its way."""
        if self._heartbeat.send(monotonic()):
            self._heartbeat.sent(await emit_barrier(self._source, HEARTBEAT))
            # It may have come before the answer did.
            self._heartbeat.arrive(self._progress.reached, monotonic())

    async def look_for_tables(self) -> None:
        """Publish and copy tables that nobody has heard of; note how large all are.

        Raises psycopg.errors.LockNotAvailable if a table is locked.
        """
        await self._source.execute(_LOCK_TIMEOUT)
        copier = self._copier
        if copier is not None:
            try:
                await adopt_missing_tables(self._source, self._settings, copier.copies)
            except psycopg.errors.LockNotAvailable:
                log.info("a new table is locked: publishing it later")
        copied = await load_copied_tables(self._source, self._settings.source)
        if copied is None:
            return
        names = [table.qualified_name for table in copied.tables]
        self._vitals.rows = await estimate_rows(self._source, names)
        if copier is not None:
            copier.heed(names)

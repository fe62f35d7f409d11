"""What is looked at on the source now and then while its stream runs, one thing after the other.

Who stands by, how much WAL the slot holds back, tables that nobody has heard of: who writes to none
of those sends no sign of them. The connection is the lookout's alone.
"""

import asyncio
import logging
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
from cdc.vitals import Vitals

log = logging.getLogger(__name__)

# How often the source is asked how far its WAL is, and whether another daemon stands by.
LOOK_INTERVAL_S = 2.0

# How often a heartbeat is sent, if the one before has arrived: a commit on the source each time.
HEARTBEAT_INTERVAL_S = 10.0

# How often the published tables are compared with those that are copied.
TABLES_INTERVAL_S = 30.0


class Lookout:
    """Looks after one stream."""

    def __init__(
        self,
        source: Connection,
        settings: Settings,
        vitals: Vitals,
        *,
        progress: Progress,
        copier: Copier | None,
        standby: Standby | None,
    ) -> None:
        """Neither copier nor anybody who heeds a standby: the stream goes by way of the spool."""
        self._source = source
        self._settings = settings
        self._vitals = vitals
        self._heartbeat = progress.heartbeat
        self._progress = progress
        self._copier = copier
        self._standby = standby

    async def run(self) -> None:
        """Look until cancelled; all but who stands by was looked at just now."""
        sent = looked = monotonic()
        if self._copier is not None:
            await self._send_heartbeat()
        while True:
            if self._standby is not None:
                name = self._settings.source.slot
                present = await has_standby(self._source, name)
                followed = present and await has_follower(self._source, name)
                self._standby.heed(present=present, followed=followed)
            await asyncio.sleep(LOOK_INTERVAL_S)
            await budget.look(self._source, self._settings.source.slot, self._vitals.wal)
            if monotonic() - sent > HEARTBEAT_INTERVAL_S and self._copier is not None:
                sent = monotonic()
                await self._send_heartbeat()
            if monotonic() - looked > TABLES_INTERVAL_S:
                looked = monotonic()
                await self._look_for_tables()

    async def look(self) -> None:
        """Look at the WAL, and at the tables."""
        await budget.look(self._source, self._settings.source.slot, self._vitals.wal)
        await self._look_for_tables()

    async def _send_heartbeat(self) -> None:
        """Write a message into the source's WAL, unless the last one is still on its way."""
        if self._heartbeat.send(monotonic()):
            self._heartbeat.sent(await emit_barrier(self._source, HEARTBEAT))
            # It may have come before the answer did.
            self._heartbeat.arrive(self._progress.reached, monotonic())

    async def _look_for_tables(self) -> None:
        """Publish and copy tables that nobody has heard of; note how large all are."""
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

"""Lets whoever verifies see both sides at one LSN: the stream stands still there for a moment.

    who verifies                                 here
    holds a lock on the source, and asks
                                                 takes a snapshot of the source; the stream stands
                                                 still at its LSN, and the target's checkpoint too
    joins the snapshot, opens one of the target
                                                 the stream goes on
    compares for as long as it takes, notes the result and lets the lock go
                                                 reads the result

Whoever does not join in time, or is gone, holds up nobody: the stream goes on. A failure here ends
the verification and not the stream; who asked is told of it.
"""

import asyncio
import logging
from time import monotonic

import psycopg

from cdc.backoff import described
from cdc.errors import CdcError, Unavailable
from cdc.lsn import format_lsn
from cdc.postgres.advisory import holders
from cdc.postgres.session import Connection, connect, connect_replication
from cdc.settings import Settings
from cdc.sync.hold import Hold
from cdc.sync.snapshot import stand_at_snapshot
from cdc.target.connection import connect_target
from cdc.target.verification import (
    Offer,
    give_up,
    has_joined,
    hear,
    load_result,
    lock_of,
    offer,
)
from cdc.verified import Verifications, Verified

log = logging.getLogger(__name__)

# The stream stands still for so long at most, for who has to see the offer and open two snapshots.
JOIN_S = 10.0

_POLL_S = 0.05


class Vantage:
    """Serves one verification after the other, beside one stream."""

    def __init__(self, settings: Settings, hold: Hold, verifications: Verifications) -> None:
        self._settings = settings
        self._hold = hold
        self._verifications = verifications
        self._asked_by: int | None = None
        self._changed = asyncio.Event()

    async def look(self, source: Connection) -> None:
        """Look whether somebody verifies, by a session of the caller's."""
        found = await holders(source, lock_of(self._settings.source.slot))
        self._asked_by = found[0] if found else None
        self._changed.set()

    async def run(self) -> None:
        """Serve until cancelled."""
        await self._next_look()
        while True:
            attended = self._verifications.attended
            if self._asked_by is not None:
                done = await self._attend(self._asked_by)
            else:
                done = attended is not None and await self._hears_result(attended)
            if not done:
                await self._next_look()

    async def _next_look(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _gone(self, asked_by: int) -> None:
        """Wait until that session does not hold the lock any more."""
        while self._asked_by == asked_by:
            await self._next_look()

    async def _attend(self, asked_by: int) -> bool:
        """See what the holder of the lock asks for to its end; False if it has not asked yet."""
        try:
            async with await self._connect_target() as target:
                asked = await hear(target, self._settings.source.slot, asked_by)
                if asked is None:
                    return False
                if asked.finished:  # and whoever it is does not let go: he has had his answer
                    await target.close()
                    await self._gone(asked_by)
                    return True
                before = self._verifications.attended
                if before is not None and before != asked.number:
                    await self._hears_result(before)
                self._verifications.attended = asked.number
                if not asked.joined:
                    await self._serve_until_gone(target, asked.number, asked_by)
        except (psycopg.Error, CdcError, OSError) as ex:
            # What fails here fails for who asked, who is told if the target is there.
            log.warning("a verification cannot be served", extra={"error": described(ex)})
            return False
        await self._gone(asked_by)
        return True

    async def _connect_target(self) -> Connection:
        dsn = self._settings.target.require_dsn()
        return await connect_target(dsn, application_name="cdc verify")

    async def _serve_until_gone(self, target: Connection, number: int, asked_by: int) -> None:
        serving = asyncio.ensure_future(self._serve(target, number))
        gone = asyncio.ensure_future(self._gone(asked_by))
        try:
            await asyncio.wait({serving, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            serving.cancel()
            gone.cancel()
            (served, _) = await asyncio.gather(serving, gone, return_exceptions=True)
        if isinstance(served, Exception):
            await give_up(target, number, described(served))
            raise served

    async def _serve(self, target: Connection, number: int) -> None:
        """Let the stream stand still until both sides are in view, or JOIN_S are over."""
        dsn, plugin = self._settings.source.require_dsn(), self._settings.source.plugin
        async with (
            await connect(dsn, application_name="cdc verify") as source,
            await connect_replication(dsn, application_name="cdc verify") as replication,
        ):
            await self._hold.take()
            try:
                snapshot = await stand_at_snapshot(source, replication, self._hold, plugin=plugin)
                since = monotonic()
                await offer(target, number, Offer(snapshot.lsn, snapshot.name))
                while not await has_joined(target, number):
                    if monotonic() - since > JOIN_S:
                        raise Unavailable(f"both sides were not in view within {JOIN_S:.0f} s")
                    await asyncio.sleep(_POLL_S)
            finally:
                self._hold.release()
        log.info(
            "a verification has both sides in view",
            extra={
                "lsn": format_lsn(snapshot.lsn),
                "stood_still_s": round(monotonic() - since, 3),
            },
        )

    async def _hears_result(self, number: int) -> bool:
        """Read what was found: the target is awake, for it was compared until now."""
        try:
            async with await self._connect_target() as target:
                await give_up(target, number, "it ended before its end")
                found = await load_result(target, number)
        except (psycopg.Error, CdcError, OSError) as ex:
            log.warning("a verification's result is not known", extra={"error": described(ex)})
            return False
        self._verifications.attended = None
        self._verifications.count(found)
        self._tell(found)
        return True

    def _tell(self, found: Verified | None) -> None:
        if found is None:
            log.warning("a verification has come to no result: `cdc verify` said why")
        elif found.equal:
            log.info("verified", extra={"lsn": format_lsn(found.lsn), "rows": found.rows})
        else:
            log.error(
                "verified: rows differ",
                extra={
                    "lsn": format_lsn(found.lsn),
                    "relations": list(found.differing),
                    "hint": "`cdc verify --repair` sets them to what the source has",
                },
            )

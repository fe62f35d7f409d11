"""The daemon: from settings to a stream that goes on until it is told to stop.

    initialize what is missing ─► [ connect ─► wait for the slot ─► check position ─► pipeline ]*

Whatever `backoff` calls RETRY ends one turn of the loop and begins another after a delay; anything
else ends the process. A turn goes straight to the target, or by way of the spool (`sync.spool`).
SIGTERM and SIGINT let the batch in hand finish, confirm it and return.
"""

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from time import monotonic

import psycopg

from cdc.backoff import LONGEST_DELAY_S, Verdict, judge
from cdc.changes.copies import Copies
from cdc.errors import CdcError, PositionLost, TargetAway
from cdc.failures import Failures, hopeless
from cdc.lsn import Lsn
from cdc.postgres.session import Connection, connect
from cdc.prepare import prepare
from cdc.reload import NEEDS_RESTART, changed, concerns_stream, keep, require_usable
from cdc.settings import Settings
from cdc.source import budget
from cdc.source.lease import wait_for_lease
from cdc.source.row import row_reader
from cdc.source.slot import emit_barrier
from cdc.source.stream import ReplicationStream
from cdc.sync.copier import Report
from cdc.sync.follow import done_by_another
from cdc.sync.limits import Limits
from cdc.sync.renew import record_loss, renew
from cdc.sync.spool import choice
from cdc.sync.spool.alone import replay_alone
from cdc.sync.start import asking_target, require_position
from cdc.sync.turn import Conductor, Copying, Sides, begin_turn
from cdc.target.apply import Target
from cdc.target.connection import connect_target
from cdc.target.copies import load_copies, mirror
from cdc.target.sole import end_copiers
from cdc.target.verification import load_results
from cdc.vitals import Phase, Vitals

log = logging.getLogger(__name__)

# A command that was asked to come to an end waits this long for a database that is away.
PATIENCE_S = 60.0


@dataclass(slots=True, frozen=True)
class Until:
    """When `run` comes to an end by itself."""

    current: bool = False
    """All that is committed on the source when it starts."""
    lsn: Lsn | None = None
    copied: bool = False
    """When all tables are copied."""

    @property
    def asked(self) -> bool:
        """There is an end."""
        return self.current or self.lsn is not None or self.copied


class Daemon:
    """One pipeline, kept alive."""

    def __init__(self, settings: Settings, until: Until, report: Report, vitals: Vitals) -> None:
        require_usable(settings)
        self._settings = settings
        self._until = until
        self._report = report
        self._vitals = vitals
        vitals.spool_limit_bytes = settings.spool.max_bytes
        self._stopping = asyncio.Event()
        self._roused = asyncio.Event()
        """There is no more waiting before the next try: to stop, or since settings have changed."""
        self._turn: asyncio.Task[None] | None = None
        self._pipeline: Conductor | None = None
        self._target = self._make_target()
        # A command with an end does not queue: it gives up.
        self._limits = (
            Limits(until.lsn, PATIENCE_S, until.copied)
            if until.asked
            else Limits(away_s=choice.away_s(settings))
        )
        self._copies: Copies | None = None
        self._unready: Exception | None = None
        self._ready = False
        self._reloaded = False
        self._streamed = False
        self._achieved = False
        self._away = False
        self._ended = False

    def _make_target(self) -> Target:
        settings = self._settings
        return Target(
            settings.target.require_dsn(),
            settings.source.schemas,
            settings.source.slot,
            self._vitals.counts,
            quarantine=settings.apply.on_error == "quarantine",
            read_row=row_reader(settings.source.require_dsn()),
        )

    def stop(self) -> None:
        """Finish the batch in hand and return from `run`; what is before the stream is cut off."""
        self._stopping.set()
        self._vitals.phase = Phase.STOPPING
        self._roused.set()
        self._end_turn()

    @property
    def stopping(self) -> bool:
        """It was told to stop."""
        return self._stopping.is_set()

    def _end_turn(self) -> None:
        if self._pipeline is not None:
            self._pipeline.stop()
        elif self._turn is not None:
            self._turn.cancel()

    def reload(self, given: Settings) -> Settings:
        """Go on with other settings, in a turn that begins now; return those in force.

        Raises SettingsError, and goes on as before, where they are of no use.
        """
        settings = keep(self._settings, given)
        require_usable(settings)
        stay = [name for name in changed(self._settings, given) if name in NEEDS_RESTART]
        if stay:
            log.warning("what needs a restart stays as it was", extra={"settings": stay})
        names = changed(self._settings, settings)
        if not names:
            log.info("no setting has changed")
            return self._settings
        log.info("going on with other settings", extra={"settings": names})
        self._settings = settings
        self._vitals.spool_limit_bytes = settings.spool.max_bytes
        # One who was told already is about to begin anew: cut off twice, it could not clean up.
        if concerns_stream(names) and not self._reloaded:
            self._reloaded = True
            self._roused.set()
            self._end_turn()
        return settings

    async def run(self) -> None:
        """Stream until told to stop or until the end that was asked for.

        Raises NeedsOperator where trying again cannot help, Unavailable where an end was asked for
        and a database stays away.
        """
        failures = Failures(self._vitals, patience_s=PATIENCE_S if self._until.asked else None)
        while not self._stopping.is_set():
            self._streamed = self._achieved = False
            try:
                await self._take_turn()
            except (psycopg.Error, CdcError, OSError) as ex:
                # What went wrong under other settings may be what they were changed for.
                if hopeless(ex, worked_before=self._ready) and not self._reloaded:
                    raise
                # What stood in the way of preparing, and is raised since the source answers, is
                # the target's.
                of_source = ex is not self._unready
                failures.note(ex, of_source=of_source, stopping=self.stopping)
                self._away = self._away or isinstance(ex, TargetAway)
                # A stream that begins and does nothing, since the target is away, is no success.
                if self._achieved or (self._streamed and not isinstance(ex, TargetAway)):
                    failures.forget()
                await self._pause(failures.delay_s(ex))
            else:
                if self._ended:
                    return
            if self._reloaded:
                failures.forget()
                await self._begin_anew()

    async def _begin_anew(self) -> None:
        """Forget what was remembered: it may not hold under other settings."""
        await self._target.close()
        self._reloaded = self._ready = False
        self._roused.clear()
        self._target = self._make_target()
        self._vitals.phase = Phase.STARTING
        self._copies = None
        if not self._until.asked:
            self._limits = Limits(away_s=choice.away_s(self._settings))

    async def _stream_or_renew(self) -> None:
        try:
            await self._stream_once()
        except PositionLost as lost:
            if self._settings.source.on_slot_lost != "resync":
                await record_loss(self._settings, lost)
                raise
            await self._renew(lost)

    async def _renew(self, lost: PositionLost) -> None:
        """Begin anew with another slot; nothing that was remembered holds any more."""
        await self._target.close()
        await renew(self._settings, lost)
        await self._begin_anew()

    async def _take_turn(self) -> None:
        """Run one turn as a task, so that `stop` can end it where there is no stream yet."""
        self._turn = asyncio.create_task(self._stream_or_renew())
        ended = False
        try:
            await self._turn
            ended = True
        except asyncio.CancelledError:
            if not (self._stopping.is_set() or self._reloaded):
                raise
        finally:
            self._pipeline = self._turn = None
            if self._vitals.streams:
                self._vitals.phase = Phase.STARTING
            # The session is worth keeping over a new stream, a transaction under way is not.
            if ended or self._stopping.is_set() or not self._target.settled:
                await self._target.close()

    async def _pause(self, delay_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._roused.wait()

    async def _stream_once(self) -> None:
        """One turn: from connecting to the source to the end of its stream."""
        settings = self._settings
        self._unready = unready = await self._prepare()
        if self._until.copied and self._copies is not None and not self._copies.pending:
            await require_position(settings)
            self._ended = True
            return
        dsn = settings.source.require_dsn()
        async with await self._connect_source(dsn) as source:
            self._vitals.source_answers = True
            if self._until.current and self._limits.until is None:
                self._limits.until = await emit_barrier(source)
            if unready is not None:
                # However long it takes: the source's WAL is watched.
                await budget.look(source, settings.source.slot, self._vitals.wal)
            if self._until.asked and await done_by_another(
                source, settings, self._limits.until, patience_s=PATIENCE_S
            ):
                self._ended = True
                return
            rival = await wait_for_lease(
                source,
                settings.source.slot,
                patience_s=PATIENCE_S if self._until.asked else None,
                superseded=self._stand_by,
            )
            if rival or (self._copies is not None and self._copies.pending):
                # Who had it before, be it we, may have written chunks that nobody noted here.
                self._copies = None
            stream = await ReplicationStream.connect(dsn)
            try:
                await self._stream(source, stream, unready)
            finally:
                await stream.close()

    async def _stand_by(self) -> None:
        """Another daemon streams: find out whether it has our place."""
        self._vitals.phase, self._vitals.problem = Phase.STANDBY, ""
        await self._target.require_unclaimed()

    async def _connect_source(self, dsn: str) -> Connection:
        """Connect; where the source is away, see that nothing stays behind in the spool."""
        try:
            return await connect(dsn)
        except (psycopg.Error, CdcError, OSError) as ex:
            if judge(ex) is Verdict.RETRY:
                await replay_alone(self._target, self._settings, self._limits, self._vitals.counts)
            raise

    async def _prepare(self) -> Exception | None:
        """Prepare once; return what stood in the way, if a turn by way of the spool may not mind.

        That is a target that is away, or a source: then the turn fails by that.
        """
        if self._ready:
            return None
        try:
            await prepare(self._settings, snapshot=True)
            self._copies = await self._load_copies()
        except (psycopg.Error, CdcError, OSError) as ex:
            if hopeless(ex, worked_before=False) or self._until.asked:
                raise
            return ex
        self._ready = True
        return None

    async def _stream(
        self, source: Connection, stream: ReplicationStream, unready: Exception | None
    ) -> None:
        vitals = self._vitals
        sides = Sides(source, stream, self._target, vitals)
        copying = Copying(self._known_copies, self._report)
        async with begin_turn(
            sides, self._settings, self._limits, copying, away=self._away, unready=unready
        ) as turn:
            self._streamed = True
            phase = Phase.SPOOLING if turn.copier is None else Phase.STREAMING
            vitals.begin_stream(phase, turn.progress, self._tables_to_copy(), monotonic())
            if self._until.asked:
                # What a command is to come to an end with, it knows before it begins.
                await turn.lookout.look_for_tables()
            self._pipeline = turn.conductor
            if self._stopping.is_set():
                self._pipeline.stop()
            began, since = turn.progress.applied, monotonic()
            try:
                await turn.run()
            finally:
                lasted = monotonic() - since > LONGEST_DELAY_S
                self._achieved = lasted or turn.progress.applied > began
        self._away = False
        straight = turn.copier is not None
        self._ended = self._stopping.is_set() or (straight and not self._reloaded)
        if not self._ended:
            self._copies = None  # copies may have been asked for by what was queued

    def _tables_to_copy(self) -> int:
        if self._copies is None or not self._copies.pending:
            return 0
        return max(1, len(self._copies.under_way))

    async def _known_copies(self) -> Copies:
        """Return the copies under way: as this process knows them, else as the target does."""
        if self._copies is None:
            self._copies = await self._load_copies(alone=True)
        return self._copies

    async def _load_copies(self, *, alone: bool = False) -> Copies:
        """Ask the target for the copies under way; `alone`: when those who wrote them are gone."""
        with asking_target():
            async with await connect_target(self._settings.target.require_dsn()) as target:
                if alone:
                    await end_copiers(target, self._settings.source.slot)
                for found in await load_results(target, self._settings.source.slot):
                    self._vitals.verifications.remember(found)
                return mirror(await load_copies(target, self._settings.source.slot))

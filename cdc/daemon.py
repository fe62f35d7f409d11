"""The daemon: from settings to a stream that goes on until it is told to stop.

    initialize where there is no checkpoint ─► [ connect ─► check the position ─► pipeline ]*

Whatever `backoff` calls RETRY ends one turn of the loop and begins another after a delay; anything
else ends the process. A turn goes straight to the target, or by way of the spool (`sync.spool`).
SIGTERM and SIGINT let the batch in hand finish, confirm it and return.
"""

import asyncio
import contextlib
import logging
import math
import signal
from dataclasses import dataclass
from time import monotonic

import psycopg

from cdc.assure.preflight import preflight
from cdc.assure.preflight.facts import Intent
from cdc.assure.preflight.findings import Severity
from cdc.backoff import Verdict, delays, described, judge
from cdc.budget import WalBudget
from cdc.errors import CdcError, CheckFailed, TargetAway
from cdc.lsn import Lsn, format_lsn
from cdc.postgres.session import Connection, connect
from cdc.progress import Progress
from cdc.settings import Settings
from cdc.source import budget
from cdc.source.row import row_reader
from cdc.source.slot import emit_barrier
from cdc.source.stream import ReplicationStream
from cdc.sync.adopt import adopt_missing_tables
from cdc.sync.initialize import initialize
from cdc.sync.pipeline import Limits
from cdc.sync.snapshot import Report
from cdc.sync.spool import choice
from cdc.sync.spool.alone import replay_alone
from cdc.sync.tasks import first_error
from cdc.sync.turn import Conductor, Sides, begin_turn
from cdc.target.apply import Target

log = logging.getLogger(__name__)

# How often the list of published tables is compared with the tables that there are.
ADOPT_INTERVAL_S = 30.0

# How often the source is asked how much WAL it still keeps for the slot.
BUDGET_INTERVAL_S = 30.0

PROGRESS_INTERVAL_S = 60.0

# A command that was asked to come to an end waits this long for a database that is away.
PATIENCE_S = 60.0


@dataclass(slots=True, frozen=True)
class Until:
    """When `run` comes to an end by itself."""

    current: bool = False
    """All that is committed on the source when it starts."""
    lsn: Lsn | None = None

    @property
    def asked(self) -> bool:
        """There is an end."""
        return self.current or self.lsn is not None


class Daemon:
    """One pipeline, kept alive."""

    def __init__(self, settings: Settings, until: Until, report: Report) -> None:
        choice.require_spoolable(settings)
        self._settings = settings
        self._until = until
        self._report = report
        self._stopping = asyncio.Event()
        self._turn: asyncio.Task[None] | None = None
        self._pipeline: Conductor | None = None
        self._target = Target(
            settings.target.require_dsn(),
            settings.source.schemas,
            settings.source.slot,
            quarantine=settings.apply.on_error == "quarantine",
            read_row=row_reader(settings.source.require_dsn()),
        )
        # A command with an end does not queue: it gives up.
        self._limits = (
            Limits(until.lsn, patience_s=PATIENCE_S)
            if until.asked
            else Limits(away_s=choice.away_s(settings))
        )
        self._budget = WalBudget()
        self._ready = False
        self._streamed = False
        self._away = False
        self._ended = False

    def stop(self) -> None:
        """Finish the batch in hand and return from `run`; what is before the stream is cut off."""
        self._stopping.set()
        if self._pipeline is not None:
            self._pipeline.stop()
        elif self._turn is not None:
            self._turn.cancel()

    async def run(self) -> None:
        """Stream until told to stop or until the end that was asked for.

        Raises NeedsOperator where trying again cannot help, Unavailable where an end was asked for
        and a database stays away.
        """
        waits, since = delays(), monotonic()
        while not self._stopping.is_set():
            self._streamed = False
            try:
                await self._take_turn()
            except (psycopg.Error, CdcError, OSError) as ex:
                if judge(ex) is not Verdict.RETRY:
                    raise
                self._away = self._away or isinstance(ex, TargetAway)
                if self._streamed:
                    waits, since = delays(), monotonic()
                if self._until.asked and monotonic() - since > PATIENCE_S:
                    raise
                await self._pause(ex, next(waits))
            else:
                if self._ended:
                    return

    async def _take_turn(self) -> None:
        """Run one turn as a task, so that `stop` can end it where there is no stream yet."""
        self._turn = asyncio.create_task(self._stream_once())
        ended = False
        try:
            await self._turn
            ended = True
        except asyncio.CancelledError:
            if not self._stopping.is_set():
                raise
        finally:
            self._pipeline = self._turn = None
            # The session is worth keeping over a new stream, a transaction under way is not.
            if ended or self._stopping.is_set() or not self._target.settled:
                await self._target.close()

    async def _pause(self, error: BaseException, delay: float) -> None:
        log.warning("trying again", extra={"error": described(error), "delay_s": round(delay, 2)})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._stopping.wait()

    async def _stream_once(self) -> None:
        """One turn: from connecting to the source to the end of its stream."""
        settings = self._settings
        unready = await self._prepare()
        dsn = settings.source.require_dsn()
        async with await self._connect_source(dsn) as source:
            if self._until.current and self._limits.until is None:
                self._limits.until = await emit_barrier(source)
            if unready is not None:
                # However long it takes: the source's WAL is watched.
                await budget.look(source, settings.source.slot, self._budget)
            stream = await ReplicationStream.connect(dsn)
            try:
                await self._stream(source, stream, unready)
            finally:
                await stream.close()
            if self._until.asked and self._ended and not self._stopping.is_set():
                await adopt_missing_tables(source, settings)

    async def _connect_source(self, dsn: str) -> Connection:
        """Connect; where the source is away, see that nothing stays behind in the spool."""
        try:
            return await connect(dsn)
        except (psycopg.Error, CdcError, OSError) as ex:
            if judge(ex) is Verdict.RETRY:
                await replay_alone(self._target, self._settings, self._limits)
            raise

    async def _prepare(self) -> Exception | None:
        """Prepare once; return what stood in the way, if a turn by way of the spool may not mind.

        That is a target that is away, or a source: then the turn fails by that.
        """
        if self._ready:
            return None
        try:
            await prepare(self._settings, snapshot=True, report=self._report)
        except (psycopg.Error, CdcError, OSError) as ex:
            if judge(ex) is not Verdict.RETRY or self._until.asked:
                raise
            return ex
        self._ready = True
        return None

    async def _stream(
        self, source: Connection, stream: ReplicationStream, unready: Exception | None
    ) -> None:
        sides = Sides(source, stream, self._target)
        async with begin_turn(
            sides, self._settings, self._limits, away=self._away, unready=unready
        ) as turn:
            self._streamed = True
            turn.progress.budget = self._budget
            self._pipeline = turn.conductor
            if self._stopping.is_set():
                self._pipeline.stop()
            try:
                async with asyncio.TaskGroup() as tasks:
                    beside = [
                        tasks.create_task(self._look_after(source, adopt=not turn.by_spool)),
                        tasks.create_task(_log_progress(turn.progress)),
                    ]
                    await self._pipeline.run(status_interval_s=turn.status_interval_s)
                    for task in beside:
                        task.cancel()
            except BaseExceptionGroup as group:
                raise first_error(group) from group
        self._away = False
        self._ended = not turn.by_spool

    async def _look_after(self, source: Connection, *, adopt: bool) -> None:
        """Watch the source's WAL, and keep a publication that is a list of tables complete."""
        adopted = -math.inf
        while True:
            await budget.look(source, self._settings.source.slot, self._budget)
            if adopt and monotonic() - adopted >= ADOPT_INTERVAL_S:
                await self._adopt(source)
                adopted = monotonic()
            await asyncio.sleep(min(ADOPT_INTERVAL_S, BUDGET_INTERVAL_S))

    async def _adopt(self, source: Connection) -> None:
        try:
            await adopt_missing_tables(source, self._settings)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.ForeignKeyViolation) as ex:
            # Somebody writes to it, or it refers to rows that are still in the stream.
            log.info("adopting a new table later", extra={"reason": type(ex).__name__})


async def prepare(settings: Settings, *, snapshot: bool, report: Report) -> None:
    """Check both sides, then initialize what is missing; raise CheckFailed with all findings."""
    intent = Intent.COPY if snapshot else Intent.TAKE_OVER
    findings = await preflight(settings, intent=intent)
    breaking = [finding for finding in findings if finding.severity is Severity.BREAKS]
    if breaking:
        raise CheckFailed(
            "; ".join(f"{finding.subject}: {finding.problem}" for finding in breaking),
            hint=breaking[0].mend if len(breaking) == 1 else "`cdc check` shows how to mend each",
        )
    await initialize(settings, snapshot=snapshot, report=report)


async def run(settings: Settings, until: Until, report: Report) -> None:
    """Run a daemon in this process, stopped by SIGTERM and SIGINT."""
    daemon = Daemon(settings, until, report)
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, daemon.stop)
    await daemon.run()


async def _log_progress(progress: Progress) -> None:
    """Say now and then that the stream is alive, and how far it is."""
    while True:
        await asyncio.sleep(PROGRESS_INTERVAL_S)
        log.info(
            "progress",
            extra={
                "received": format_lsn(progress.received),
                "applied": format_lsn(progress.applied),
                "confirmed": format_lsn(progress.confirmed),
                "transactions": progress.transactions,
                "changes": progress.changes,
                "batches": progress.batches,
                "replays": progress.replays,
                "repairs": progress.repairs,
                "spooled_bytes": progress.spooled_bytes,
                "spooled_transactions": progress.spooled_transactions,
            },
        )

"""The daemon as a service: signals, what is served and told beside the stream, and its end.

    SIGTERM, SIGINT   the batch in hand is finished and confirmed, then the process ends with 0
    SIGHUP            the settings are read again; the next turn begins with them

A command with an end of its own (`cdc run --until-current`, `cdc init`) serves and tells nobody,
and SIGHUP ends it, as it ends any command whose terminal is gone.
"""

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from time import monotonic
from typing import TYPE_CHECKING

from cdc import loop
from cdc.backoff import described
from cdc.daemon import Daemon, Until
from cdc.errors import CdcError, SettingsError, Unavailable
from cdc.observe.history import INTERVAL_S, History
from cdc.observe.notify import Notifier
from cdc.observe.now import now
from cdc.observe.pushed import asked_for
from cdc.progress import CopyProgress
from cdc.settings import Settings
from cdc.sync.copier import Report
from cdc.sync.report import awake
from cdc.target.connection import AWAKE
from cdc.vitals import Phase, Vitals

if TYPE_CHECKING:
    from cdc.observe.telemetry import Telemetry

log = logging.getLogger(__name__)

_COLLECT_INTERVAL_S = 10.0

# The page asks every two seconds.
_SEEN_S = 3.0


class Service:
    """One daemon in this process, and all that is beside it."""

    def __init__(self, load: Callable[[], Settings], until: Until, report: Report) -> None:
        """`load` reads the settings, at the beginning and each time that it is asked to."""
        self._load = load
        self._settings = load()
        self._until = until
        self._vitals = Vitals(self._settings.source.slot, AWAKE)
        self._serves = False
        self._stopping = asyncio.Event()
        self._notifier = Notifier(self._vitals, silent=until.asked)
        self._daemon = Daemon(self._settings, until, self._noting(report), self._vitals)

    async def run(self) -> None:
        """Run the daemon to its end; raises as `Daemon.run` does."""
        here = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            here.add_signal_handler(signum, self._stop)
        async with AsyncExitStack() as beside:
            await beside.enter_async_context(_task(_collect_garbage()))
            try:
                if not self._until.asked:
                    here.add_signal_handler(signal.SIGHUP, self._reload)
                    await self._observe(beside)
                await self._daemon.run()
            except Exception as ex:
                self._note_end(ex)
                await self._be_seen()
                raise
            finally:
                self._notifier.stopping()
        log.info("stopped", extra=awake())
        if self._until.asked and self._daemon.stopping:
            raise Unavailable(
                "stopped before it was done", hint="the same command again goes on where it was"
            )

    def _note_end(self, error: Exception) -> None:
        """Note by what the daemon ends: a halt, unless to start it again may help."""
        if isinstance(error, Unavailable):
            return
        self._vitals.phase, self._vitals.problem = Phase.HALTED, described(error)
        self._vitals.hint = error.hint if isinstance(error, CdcError) else ""

    async def _observe(self, beside: AsyncExitStack) -> None:
        """Serve and tell, until the stack is closed."""
        # Of each start 100 ms, and 15 MB, for who asks for it.
        from cdc.observe.alerting import alerting  # noqa: PLC0415

        # The first to come and the last to go: what ends the daemon from here on is alerted.
        await beside.enter_async_context(alerting(self._vitals, lambda: self._settings))
        await beside.enter_async_context(_task(self._notifier.run()))
        pushed = asked_for()
        if not (pushed or self._settings.http.listen):
            return
        from cdc.observe.telemetry import Telemetry  # noqa: PLC0415

        telemetry = Telemetry(self._vitals, pushed)
        beside.push_async_callback(telemetry.close)
        if self._settings.http.listen:
            await self._serve(beside, telemetry)

    async def _serve(self, beside: AsyncExitStack, telemetry: "Telemetry") -> None:
        """Answer over HTTP, until the stack is closed."""
        from cdc.observe.http import Answers, application  # noqa: PLC0415
        from cdc.observe.server import bind, serving  # noqa: PLC0415

        history = History()
        listening = bind(self._settings.http)
        await beside.enter_async_context(_task(_sample(history, self._vitals)))
        answers = Answers(self._vitals, history, telemetry, self._max_lag_s)
        app = application(answers, self._settings.http)
        await beside.enter_async_context(serving(app, listening))
        self._serves = True

    def _max_lag_s(self) -> float:
        """Return the lag from which the copy is not ready: beyond what is gathered on purpose."""
        return self._settings.http.max_lag + self._settings.apply.flush_interval

    async def _be_seen(self) -> None:
        """Stay for a moment after a halt: who looks at the page is told why, and what to run."""
        if self._serves and self._vitals.phase is Phase.HALTED:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SEEN_S):
                    await self._stopping.wait()

    def _stop(self) -> None:
        self._stopping.set()
        self._daemon.stop()
        self._notifier.stopping()

    def _reload(self) -> None:
        """Read the settings again; with those that are of no use, all stays as it is."""
        if self._daemon.stopping:
            return
        self._notifier.reloading()
        try:
            self._settings = self._daemon.reload(self._load())
        except SettingsError as ex:
            log.error(  # noqa: TRY400  # the message says it all
                "the settings stay as they were", extra={"error": ex.message, "hint": ex.hint}
            )
        finally:
            self._notifier.reloaded()

    def _noting(self, report: Report) -> Report:
        def note(progress: CopyProgress) -> None:
            self._vitals.copy, self._vitals.copied_at_s = progress, monotonic()
            report(progress)

        return note


def run(load: Callable[[], Settings], until: Until, report: Report) -> None:
    """Run a daemon in this process, stopped by SIGTERM and SIGINT."""
    loop.run(_run(load, until, report))


async def _run(load: Callable[[], Settings], until: Until, report: Report) -> None:
    # Made here: what it is made of belongs to the loop.
    await Service(load, until, report).run()


@asynccontextmanager
async def _task(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Have something done until the end of the block."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task  # one that failed by itself says so here


async def _sample(history: History, vitals: Vitals) -> None:
    """Look now and then, until cancelled."""
    while True:
        history.look(vitals, now())
        await asyncio.sleep(INTERVAL_S)


async def _collect_garbage() -> None:
    """Look for cycles now and then, until cancelled.

    By itself Python looks each time 700 objects came to be, and at all of them again and again: a
    fifth of what a row costs (perf). Changes are in no cycles.
    """
    gc.freeze()  # what is imported by now stays
    gc.disable()
    try:
        while True:
            await asyncio.sleep(_COLLECT_INTERVAL_S)
            gc.collect()
    finally:
        gc.enable()

"""A daemon's alerts, from its start to its last word: looks now and then, and has told what is due.

    vitals ─► conditions ─► watch ─► delivery ─► told (what has arrived, kept on disk)

Without `alerts.url` nothing is looked at, and nothing is remembered.
"""

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import uuid4

from cdc.errors import SettingsError
from cdc.observe.alerts import Alert, Status, Watch
from cdc.observe.conditions import Condition, Kind, Severity, look
from cdc.observe.delivery import Delivery
from cdc.observe.now import now
from cdc.observe.told import Told
from cdc.observe.webhook import Outcome, Sender, message
from cdc.settings import Settings
from cdc.vitals import Phase, Vitals

log = logging.getLogger(__name__)

# Conditions last for minutes; to look is a few comparisons.
LOOK_INTERVAL_S = 1.0

# A halt is the last word: nobody starts a daemon again that ended with 78. So it waits for the
# receiver: through one timeout, and another try.
HALT_GRACE_S = 10.0

# Who is told to stop ends within seconds, whatever the receiver does.
STOP_GRACE_S = 2.0


class Alerting:
    """The alerts of one daemon."""

    def __init__(self, vitals: Vitals, settings: Callable[[], Settings]) -> None:
        """Ask for `settings` each time: they may change while the daemon runs."""
        self._vitals = vitals
        self._settings = settings
        self._told = Told(settings().state_dir, vitals.slot)
        self._watch = Watch(self._told.load(now()))
        self.delivery = Delivery(lambda: settings().alerts, self._note)

    async def run(self) -> None:
        """Look now and then, until cancelled."""
        while True:
            if self._vitals.phase is not Phase.STOPPING:
                self._look()
            await asyncio.sleep(LOOK_INTERVAL_S)

    async def close(self) -> None:
        """Say the last word, and wait for the receiver; not for long."""
        halted = self._vitals.phase is Phase.HALTED
        if halted:
            self._look()
        await self.delivery.close(HALT_GRACE_S if halted else STOP_GRACE_S)

    def _look(self) -> None:
        settings, moment = self._settings(), now()
        if settings.alerts.url is None:
            return
        # What is gathered on purpose does not lag.
        max_lag_s = settings.alerts.max_lag + settings.apply.flush_interval
        for alert in self._watch.see(look(self._vitals, moment, max_lag_s), moment.at_s):
            self.delivery.put(message(alert, self._vitals.slot, moment.unix_s))

    def _note(self, alert: Alert) -> None:
        self._told.note(alert, now())


@asynccontextmanager
async def alerting(vitals: Vitals, settings: Callable[[], Settings]) -> AsyncIterator[None]:
    """Alert until the end of the block, and say of a halt how it has ended."""
    alerts = Alerting(vitals, settings)
    tasks = [asyncio.create_task(work) for work in (alerts.run(), alerts.delivery.run())]
    for task in tasks:
        task.add_done_callback(_tell_fault)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await alerts.close()


def _tell_fault(task: asyncio.Task[None]) -> None:
    """Say that alerts have ended before their time: the stream goes on without them.

    Not what the fault says: that could quote the URL.
    """
    fault = None if task.cancelled() else task.exception()
    if fault is not None:
        where = "".join(traceback.format_tb(fault.__traceback__))
        about = {"error": type(fault).__name__, "where": where}
        log.error("a fault of cdc itself: no alert is sent any more", extra=about)


_TEST = Kind(
    "test",
    Severity.WARNING,
    "this is a test: nothing is wrong",
    "nothing; what a real alert looks like and how its signature is verified is in docs/alerts.md",
)


_FAILOVER = Kind(
    "failover",
    Severity.CRITICAL,
    "the target was promoted: applications have to write to it from now on, not to the source",
    "point the applications at the target and stop the daemon for good; docs/operating.md,"
    " “Failover”",
)


async def try_out(settings: Settings) -> Outcome:
    """Send a test alert once. Raises SettingsError where there is nobody to send it to."""
    if settings.alerts.url is None:
        raise SettingsError(
            "alerts.url is not set",
            hint="export CDC_ALERTS_URL=https://…, or have a file alerts.url among the credentials",
        )
    return await _send_once(settings, _TEST, "sent by `cdc alert test`")


async def tell_failover(settings: Settings, detail: str) -> Outcome | None:
    """Say once that the target was promoted, within seconds; None where there is nobody to tell.

    It is news, and no condition that holds: nothing is remembered, and nothing resolves it.
    """
    if settings.alerts.url is None:
        return None
    return await _send_once(settings, _FAILOVER, detail)


async def _send_once(settings: Settings, kind: Kind, detail: str) -> Outcome:
    condition = Condition(kind, kind.severity, detail, kind.next)
    alert = Alert(uuid4().hex, 1, Status.FIRING, condition, began_at_s=0.0, lasted_s=0.0)
    body = message(alert, settings.source.slot, now().unix_s).body
    sender = Sender()
    try:
        return await sender.post(settings.alerts, body)
    finally:
        await sender.close()

"""Delivers alerts, in order, one at a time, each until it has arrived or there is no hope.

It runs beside the stream and never makes it wait: the queue is bounded, and what does not arrive is
tried again with backoff, for an hour. The log says what has arrived and what was given up.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from time import monotonic

from cdc.backoff import delays
from cdc.observe.alerts import Alert
from cdc.observe.webhook import Message, Sender
from cdc.settings import AlertSettings

log = logging.getLogger(__name__)

# After so long a receiver has been away for longer than a restart, and a newer alert may matter
# more; what still holds is told again anyway (`alerts.REMIND_S`).
_GIVE_UP_S = 3600.0

# Each kind of alert at most twice an hour: more than these are never news.
_QUEUED = 50


class Delivery:
    """The queue of one daemon's alerts, and who empties it."""

    def __init__(
        self, settings: Callable[[], AlertSettings], arrived: Callable[[Alert], None]
    ) -> None:
        """Ask for `settings` each time: they may change. Tell `arrived` of each that has."""
        self._settings = settings
        self._arrived = arrived
        self._waiting: deque[Message] = deque()
        self._news = asyncio.Event()
        self._sender = Sender()

    def put(self, message: Message) -> None:
        """Have an alert sent; never waits. Where there are too many, the oldest is given up."""
        if len(self._waiting) >= _QUEUED:
            _give_up(self._waiting.popleft(), "too many wait before it")
        self._waiting.append(message)
        self._news.set()

    async def run(self) -> None:
        """Send what comes, until cancelled; then what is left is left to `close`."""
        while True:
            while self._waiting:
                message = self._waiting[0]
                await self._deliver(message)
                if self._waiting and self._waiting[0] is message:
                    self._waiting.popleft()
            self._news.clear()
            await self._news.wait()

    async def close(self, within_s: float) -> None:
        """Send what is left, as far as there is time for it: the newest first, the last word.

        An alert that was under way may so arrive twice, with the same id.
        """
        try:
            async with asyncio.timeout(within_s):
                while self._waiting:
                    await self._deliver(self._waiting[-1])
                    self._waiting.pop()
        except TimeoutError:
            for message in self._waiting:
                _give_up(message, "the daemon has ended before the receiver answered")
        await self._sender.close()

    async def _deliver(self, message: Message) -> None:
        """Try until it has arrived, or is given up."""
        waits, since, told = delays(), monotonic(), False
        while True:
            settings = self._settings()
            if settings.url is None:
                _give_up(message, "alerts.url is not set any more")
                return
            outcome = await self._sender.post(settings, message.body)
            if outcome.arrived:
                log.info("alert delivered", extra=_about(message.alert))
                self._arrived(message.alert)
                return
            if outcome.hopeless or monotonic() - since > _GIVE_UP_S:
                _give_up(message, outcome.said)
                return
            if not told:
                told = True
                about = _about(message.alert)
                log.warning("alert not delivered yet", extra=about | {"error": outcome.said})
            await asyncio.sleep(max(next(waits), outcome.wait_s))


def _give_up(message: Message, reason: str) -> None:
    about = _about(message.alert)
    log.error("alert not delivered", extra=about | {"error": reason})


def _about(alert: Alert) -> dict[str, str]:
    return {"alert": alert.condition.kind.name, "status": alert.status, "id": alert.id}

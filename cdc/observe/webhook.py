"""Sends alerts to a webhook: JSON by POST, signed, tried again until it arrives or is hopeless.

It runs beside the stream and never makes it wait: a bounded queue, short timeouts, one alert at a
time, in order. An alert has arrived when the receiver answers 2xx. A network that fails, 5xx and
429 are tried again for an hour; any other answer is the receiver's word that it never will.

The URL is a secret: whoever has it may post. It stands in no log line, no error and no answer, and
so the HTTP library's own messages, which quote it, are never passed on.
"""

import asyncio
import hashlib
import hmac
import logging
import os
import socket
import ssl
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from time import monotonic, time

import httpx
import orjson

from cdc import __version__
from cdc.backoff import delays
from cdc.observe.alerts import Alert
from cdc.observe.health import iso
from cdc.settings import AlertSettings

log = logging.getLogger(__name__)

# Receivers answer within a second; one that needs longer is as good as away.
_CONNECT_S = 3.0
_ANSWER_S = 5.0

# After so long a receiver has been away for longer than a restart, and a newer alert may matter
# more; what still holds is told again anyway (`alerts.REMIND_S`).
_GIVE_UP_S = 3600.0

# The most that a receiver may ask us to wait (Retry-After).
_LONGEST_WAIT_S = 300.0

# Each kind of alert at most twice an hour: more than these are never news.
_QUEUED = 50

# Bytes of a problem that names every table of a large schema would be refused as too large.
_LONGEST_DETAIL = 2000


@dataclass(slots=True, frozen=True)
class Message:
    """An alert as it is sent, however often."""

    alert: Alert
    body: bytes


def message(alert: Alert, slot: str, unix_s: float) -> Message:
    """Return what is sent of an alert that was made at a time."""
    condition, host = alert.condition, socket.gethostname()
    severity = condition.severity.name.lower()
    detail = condition.detail
    if len(detail) > _LONGEST_DETAIL:
        detail = f"{detail[:_LONGEST_DETAIL]}…"
    said = f"[{alert.status} · {severity}] cdc {slot} on {host}: {condition.kind.what}"
    text = "\n".join(line for line in (said, detail, f"Next: {condition.next}") if line)
    content = {
        "id": alert.id,
        "incident": alert.incident,
        "alert": condition.kind.name,
        "status": alert.status,
        "severity": severity,
        "slot": slot,
        "what": condition.kind.what,
        "detail": detail,
        "next": condition.next,
        "lastedSeconds": round(alert.lasted_s, 1),
        "time": iso(unix_s),
        "hostname": host,
        "version": __version__,
        "text": _escaped(text),
    }
    return Message(alert, orjson.dumps(content))


def _escaped(text: str) -> str:
    """Return text in which a chat finds no links and calls nobody: Slack's three characters."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def signed(body: bytes, key: str, unix_s: float) -> dict[str, str]:
    """Return the headers that prove from whom the body is, and when it was sent."""
    timestamp = str(int(unix_s))
    digest = hmac.new(key.encode(), f"{timestamp}.".encode() + body, hashlib.sha256)
    return {"Cdc-Timestamp": timestamp, "Cdc-Signature": f"v1={digest.hexdigest()}"}


@dataclass(slots=True, frozen=True)
class Outcome:
    """What came of one try."""

    arrived: bool
    said: str
    """What came back, or did not."""
    hopeless: bool = False
    wait_s: float = 0.0
    """How long the receiver asks us to wait before the next try."""


async def post(client: httpx.AsyncClient, settings: AlertSettings, body: bytes) -> Outcome:
    """Try once to deliver a body."""
    assert settings.url is not None
    headers = {"Content-Type": "application/json", "User-Agent": f"cdc/{__version__}"}
    if settings.key is not None:
        headers |= signed(body, settings.key.get_secret_value(), time())
    try:
        # What the receiver answers beside its status is not read: it may be of any size.
        async with (
            asyncio.timeout(_CONNECT_S + _ANSWER_S),
            client.stream(
                "POST", settings.url.get_secret_value(), content=body, headers=headers
            ) as response,
        ):
            return _judged(response)
    except TimeoutError:
        return Outcome(arrived=False, said=f"no answer within {_CONNECT_S + _ANSWER_S:.0f} s")
    except httpx.InvalidURL:
        return Outcome(arrived=False, said="alerts.url is no URL", hopeless=True)
    except (httpx.HTTPError, OSError) as ex:
        return Outcome(arrived=False, said=_reason(ex))


def client() -> httpx.AsyncClient:
    """Return what sends; it follows no redirection, since that would take the alert elsewhere."""
    return httpx.AsyncClient(timeout=httpx.Timeout(_ANSWER_S, connect=_CONNECT_S))


def _judged(response: httpx.Response) -> Outcome:
    code = response.status_code
    said = f"the receiver answered {code} {response.reason_phrase}".rstrip()
    if response.is_success:
        return Outcome(arrived=True, said=said)
    again = response.is_server_error or code == HTTPStatus.TOO_MANY_REQUESTS
    wait_s = _wait_s(response.headers.get("Retry-After", ""))
    return Outcome(arrived=False, said=said, hopeless=not again, wait_s=wait_s)


def _wait_s(asked: str) -> float:
    """Return what Retry-After asks for, in seconds: it is a number or a date."""
    try:
        wait_s = float(asked) if asked.isdigit() else _until(parsedate_to_datetime(asked))
    except ValueError:
        return 0.0
    return min(max(wait_s, 0.0), _LONGEST_WAIT_S)


def _until(date: datetime) -> float:
    aware = date if date.tzinfo else date.replace(tzinfo=UTC)
    return aware.timestamp() - time()


def _reason(error: BaseException) -> str:
    """Return why nothing came back, in words that are not the library's: those quote the URL."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return "the receiver's certificate is not accepted (SSL_CERT_FILE names another CA)"
        if isinstance(cause, ssl.SSLError):
            return f"TLS failed: {cause.reason or 'no reason given'}"
        if isinstance(cause, socket.gaierror):
            return "the receiver's name cannot be resolved"
        if isinstance(cause, OSError) and cause.errno:
            return f"the receiver cannot be reached: {os.strerror(cause.errno)}"
    if isinstance(error, httpx.TimeoutException):
        return "the receiver does not answer in time"
    return f"the receiver cannot be spoken to: {type(error).__name__}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        else:
            error = error.__cause__ or error.__context__


class Webhook:
    """The queue of one daemon's alerts, and who empties it."""

    def __init__(
        self, settings: Callable[[], AlertSettings], arrived: Callable[[Alert], None]
    ) -> None:
        """Ask for `settings` each time: they may change. Tell `arrived` of each that has."""
        self._settings = settings
        self._arrived = arrived
        self._waiting: deque[Message] = deque()
        self._news = asyncio.Event()
        self._client: httpx.AsyncClient | None = None

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
        if self._client is not None:
            await self._client.aclose()

    async def _deliver(self, message: Message) -> None:
        """Try until it has arrived, or is given up."""
        waits, since, told = delays(), monotonic(), False
        while True:
            settings = self._settings()
            if settings.url is None:
                return
            if self._client is None:
                self._client = client()
            outcome = await post(self._client, settings, message.body)
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

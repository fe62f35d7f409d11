"""What is sent of an alert, and one try to send it: JSON by POST, signed, with short timeouts.

An alert has arrived when the receiver answers 2xx. A network that fails, 5xx and 429 are worth
another try (`delivery`); any other answer is the receiver's word that it never will be.

The URL is a secret: whoever has it may post. It stands in no log line, no error and no answer, and
so the HTTP library's own messages, which quote it, are never passed on.
"""

import asyncio
import hashlib
import hmac
import os
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from time import time

import httpx
import orjson

from cdc import __version__
from cdc.observe.alerts import Alert, Status
from cdc.observe.health import iso
from cdc.settings import AlertSettings

# Receivers answer within a second; one that needs longer is as good as away.
_CONNECT_S = 3.0
_ANSWER_S = 5.0

# The most that a receiver may ask us to wait (Retry-After).
_LONGEST_WAIT_S = 300.0

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
    lines = [f"[{alert.status} · {severity}] cdc {slot} on {host}: {condition.kind.what}"]
    if alert.status is Status.RESOLVED:
        lines.append(f"That is over; it lasted {alert.lasted_s:,.0f} s.")
    else:
        lines += [line for line in (detail, f"Next: {condition.next}") if line]
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
        "text": _escaped("\n".join(lines)),
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


class Sender:
    """An HTTP client, made when it is first needed: that takes 30 ms, and most never need it."""

    def __init__(self) -> None:
        self._client: httpx.AsyncClient | None = None

    async def post(self, settings: AlertSettings, body: bytes) -> Outcome:
        """Try once to deliver a body."""
        try:
            self._client = self._client or _client()
        except (OSError, ValueError, ImportError) as ex:
            problem = f"nothing can be sent ({type(ex).__name__}): see HTTPS_PROXY, SSL_CERT_FILE"
            return Outcome(arrived=False, said=problem)
        try:
            return await _post(self._client, settings, body)
        except TimeoutError:
            return Outcome(arrived=False, said=f"no answer within {_CONNECT_S + _ANSWER_S:.0f} s")
        except httpx.InvalidURL:
            return Outcome(arrived=False, said="alerts.url is no URL", hopeless=True)
        except (httpx.HTTPError, OSError) as ex:
            return Outcome(arrived=False, said=_reason(ex))

    async def close(self) -> None:
        """Close what is open."""
        if self._client is not None:
            await self._client.aclose()


def _client() -> httpx.AsyncClient:
    """Return a client that follows no redirection: it would take the alert elsewhere."""
    return httpx.AsyncClient(timeout=httpx.Timeout(_ANSWER_S, connect=_CONNECT_S))


async def _post(client: httpx.AsyncClient, settings: AlertSettings, body: bytes) -> Outcome:
    assert settings.url is not None
    url = settings.url.get_secret_value()
    headers = {"Content-Type": "application/json", "User-Agent": f"cdc/{__version__}"}
    if settings.key is not None:
        headers |= signed(body, settings.key.get_secret_value(), time())
    async with (
        asyncio.timeout(_CONNECT_S + _ANSWER_S),
        client.stream("POST", url, content=body, headers=headers) as response,
    ):
        # What it says beside its status is not read: that may be of any size.
        return _judged(response)


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
    except (ValueError, OverflowError):
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

"""What the daemon answers over HTTP: alive, ready, metrics, health, and the status page.

Every answer is made from memory: no request asks a database anything, so none wakes the target. It
is served by the loop that the stream runs on, one short step a request.

Who may ask: on a loopback address everybody on this machine, unless a token is set; elsewhere a
token has to be (`server.bind` refuses without). A browser gives it as a password. What is
served names tables, never a value of a row and no secret.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import TypeAlias

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from cdc.observe.glance import glance
from cdc.observe.health import HANGS_S, Health, assess
from cdc.observe.history import History
from cdc.observe.now import now
from cdc.observe.telemetry import Telemetry
from cdc.settings import HttpSettings
from cdc.vitals import Phase, Vitals

_JSON = "application/json"
_Handler: TypeAlias = Callable[[Request], Awaitable[Response]]

# Names that a browser may have for this machine; any other is a page of somebody else that was
# pointed here (DNS rebinding).
_LOCAL_NAMES = ["localhost", "127.0.0.1", "[::1]"]


class Answers:
    """The answers of one daemon."""

    def __init__(
        self,
        vitals: Vitals,
        history: History,
        telemetry: Telemetry,
        max_lag_s: Callable[[], float],
    ) -> None:
        """`max_lag_s` is asked each time: settings may change while the daemon runs."""
        self._vitals = vitals
        self._history = history
        self._telemetry = telemetry
        self._max_lag_s = max_lag_s
        self._page = resources.files("cdc.observe").joinpath("page.html").read_bytes()
        self._page_headers = {"Content-Security-Policy": _policy(self._page)}

    def routes(self) -> list[Route]:
        """Return which path is answered by whom."""
        by_path: dict[str, _Handler] = {
            "/livez": self.livez,
            "/readyz": self.readyz,
            "/metrics": self.metrics,
            "/api/credit/health/databases": self.databases,
            "/api/glance": self.glance,
            "/": self.page,
        }
        return [Route(path, handler, methods=["GET"]) for path, handler in by_path.items()]

    def _health(self) -> Health:
        return assess(self._vitals, now(), self._max_lag_s())

    async def livez(self, _: Request) -> Response:
        """200 while the daemon comes on, or waits for something on purpose."""
        moment = now()
        problem = self._vitals.hangs(moment.at_s, HANGS_S)
        if self._vitals.phase is Phase.HALTED:
            problem = self._vitals.problem
        return PlainTextResponse(f"{problem or 'alive'}\n", 503 if problem else 200)

    async def readyz(self, _: Request) -> Response:
        """200 while the copy is no further behind than `http.max_lag`."""
        health = self._health()
        said = "ready" if health.ready else f"{health.sync_status}: {health.problem or 'see /'}"
        return PlainTextResponse(f"{said}\n", 200 if health.ready else 503)

    async def metrics(self, _: Request) -> Response:
        """All metrics, as Prometheus reads them."""
        return Response(
            await self._telemetry.scrape(), media_type="text/plain; version=0.0.4; charset=utf-8"
        )

    async def databases(self, _: Request) -> Response:
        """How both databases and the copy do; 503 where the copy cannot be relied on."""
        health = self._health()
        return Response(health.as_json(), 200 if health.ready else 503, media_type=_JSON)

    async def glance(self, _: Request) -> Response:
        """Answer what the page shows."""
        found = glance(self._vitals, self._history, now(), self._max_lag_s())
        return Response(found, media_type=_JSON, headers={"Cache-Control": "no-store"})

    async def page(self, _: Request) -> Response:
        """Answer the status page: one file, which asks nobody but this server."""
        return Response(self._page, media_type="text/html", headers=self._page_headers)


class Guard:
    """Lets a request pass that brings the token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401 to whoever has no token."""
        if scope["type"] != "http" or self._is_known(Request(scope)):
            await self._app(scope, receive, send)
            return
        refusal = PlainTextResponse(
            "give the token (http.token): Authorization: Bearer TOKEN, or as the password\n",
            401,
            {"WWW-Authenticate": 'Basic realm="cdc", charset="UTF-8"'},
        )
        await refusal(scope, receive, send)

    def _is_known(self, request: Request) -> bool:
        kind, _, given = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() == "basic":
            try:
                given = base64.b64decode(given, validate=True).decode().partition(":")[2]
            except ValueError:
                return False
        return hmac.compare_digest(given.strip().encode(), self._token)


def application(answers: Answers, settings: HttpSettings) -> ASGIApp:
    """Return the application, guarded as the settings say."""
    guards = []
    if settings.token is not None:
        guards.append(Middleware(Guard, token=settings.token.get_secret_value()))
    else:
        ours = settings.listen.rpartition(":")[0]
        guards.append(Middleware(TrustedHostMiddleware, allowed_hosts=[*_LOCAL_NAMES, ours]))
    return Starlette(routes=answers.routes(), middleware=guards)


def _policy(page: bytes) -> str:
    """Return the policy that lets a browser run what stands in the page, and nothing else."""
    hashes = {
        tag: " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(content).digest()).decode()}'"
            for content in re.findall(rb"<%s>(.*?)</%s>" % (tag, tag), page, re.DOTALL)
        )
        for tag in (b"style", b"script")
    }
    return (
        "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none';"
        " form-action 'none';"
        f" frame-ancestors 'none'; style-src {hashes[b'style']}; script-src {hashes[b'script']}"
    )

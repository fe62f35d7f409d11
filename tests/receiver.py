"""A receiver of alerts: a real HTTP server beside the test, which answers as the test wants."""

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.servers import CHECKOUT

# Nobody is to find it in a log.
SECRET = "T0PSECRET"


def is_genuine(headers: Mapping[str, str], body: bytes, key: bytes) -> bool:
    """Tell whether what came is signed and new, by the recipe that docs/alerts.md gives."""
    page = (CHECKOUT / "docs" / "alerts.md").read_text()
    (recipe,) = re.findall(r"```python verify\n(.*?)```", page, re.DOTALL)
    names: dict[str, Callable[[Mapping[str, str], bytes, bytes], bool]] = {}
    exec(recipe, names)
    return names["is_genuine"](headers, body, key)


@dataclass(slots=True, frozen=True)
class Request:
    """What came."""

    headers: dict[str, str]
    body: bytes

    @property
    def content(self) -> dict[str, str]:
        """The alert in it."""
        content: dict[str, str] = json.loads(self.body)
        return content


@dataclass(slots=True)
class Receiver:
    """What a test asks the server for, and tells it."""

    requests: list[Request] = field(default_factory=list)
    """In the order in which they came, refused ones too."""
    answers: list[int] = field(default_factory=list)
    """Statuses for the next requests; then 200."""
    headers: dict[str, str] = field(default_factory=dict)
    """Sent with each answer."""
    awake: threading.Event = field(default_factory=threading.Event)
    """While it is not set, no request is answered."""
    url: str = ""

    def told(self, alert: str | None = None) -> list[tuple[str, str, str]]:
        """Give name, status and severity of what came, in order; of one alert alone, if named."""
        contents = [request.content for request in list(self.requests)]
        return [
            (content["alert"], content["status"], content["severity"])
            for content in contents
            if alert in {None, content["alert"]}
        ]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Receive alerts until the end of the block."""
    receiver = Receiver()
    receiver.awake.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.requests.append(Request(dict(self.headers), body))
            receiver.awake.wait()
            self.send_response(receiver.answers.pop(0) if receiver.answers else 200)
            for name, value in receiver.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as it is there
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.url = f"http://127.0.0.1:{server.server_port}/hooks/{SECRET}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield receiver
        finally:
            receiver.awake.set()
            server.shutdown()
            thread.join()

"""Who systemd is to a service: somebody at the other end of $NOTIFY_SOCKET, who writes it all down.

What a daemon says is asked for here; whether it should have said it is for the tests.
"""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.process import Daemon

READY = "READY=1"
WATCHDOG = "WATCHDOG=1"
STOPPING = "STOPPING=1"
RELOADING = "RELOADING=1"


@dataclass(slots=True)
class Manager:
    """Listens at an address."""

    address: str
    _socket: socket.socket
    _heard: list[list[str]] = field(default_factory=list)

    def heard(self) -> list[list[str]]:
        """Give the lines of each datagram so far."""
        while True:
            try:
                datagram = self._socket.recv(1 << 16)
            except BlockingIOError:
                return self._heard
            self._heard.append(datagram.decode().split("\n"))

    def lines(self) -> list[str]:
        """Give all lines so far."""
        return [line for datagram in self.heard() for line in datagram]

    def count(self, line: str) -> int:
        """Count how often it was said."""
        return self.lines().count(line)

    @property
    def status(self) -> str:
        """What was said last of how things are."""
        said = [line for line in self.lines() if line.startswith("STATUS=")]
        return said[-1].removeprefix("STATUS=") if said else ""

    def wait_for(self, line: str, daemon: Daemon, *, times: int = 1) -> None:
        """Wait until it was said so often; fail when the daemon ends or takes too long."""
        deadline = time.monotonic() + 60
        while self.count(line) < times:
            assert daemon.process.poll() is None or self.count(line) >= times, daemon.log()
            assert time.monotonic() < deadline, f"no {line}: {self.heard()[-5:]} {daemon.log()}"
            time.sleep(0.02)

    def wait_for_more(self, line: str, daemon: Daemon, *, times: int) -> None:
        """Wait until it was said so often from now on."""
        self.wait_for(line, daemon, times=self.count(line) + times)

    def wait_for_status(self, text: str, daemon: Daemon) -> None:
        """Wait until the status holds a text."""
        deadline = time.monotonic() + 60
        while text not in self.status:
            assert time.monotonic() < deadline, f"no {text!r}: {self.status} {daemon.log()}"
            time.sleep(0.02)


@contextmanager
def listening(address: str) -> Iterator[Manager]:
    """Listen at a path, or behind an @ at a name of the abstract namespace."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        ours.bind("\0" + address[1:] if address.startswith("@") else address)
        ours.setblocking(False)
        yield Manager(address, ours)

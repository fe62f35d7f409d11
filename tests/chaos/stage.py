"""The stage of the crash matrix: two servers, a proxy before each, and a daemon that is kept alive.

The daemon is started again whenever it has ended, as systemd would do it; an end that needs an
operator (78) is noted, and is a failure unless the fault allows it.
"""

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

import psycopg

from cdc.demo.server import Server
from tests.faults.proxy import Proxy, proxied
from tests.pair import Pair
from tests.process import COMMAND_TIMEOUT_S, Daemon, spawn_cdc

# Deadlines of operation are 15 s each; a matrix has no time for that.
HURRIED = {"keepalives_idle": 2, "connect_timeout": 2}
OPTIONS = "-c wal_sender_timeout=3000"

ENV = {
    "CDC_SOURCE_ON_SLOT_LOST": "resync",
    "CDC_SNAPSHOT_CHUNK_BYTES": "65536",
    "CDC_APPLY_MAX_ROWS": "500",
}

OPERATOR = 78


@dataclass(slots=True)
class Stage:
    """What faults happen to."""

    pair: Pair
    source: Server
    target: Server
    before_source: Proxy
    before_target: Proxy
    env: dict[str, str]
    ends: list[int] = field(default_factory=list)
    """Exit codes of daemons that ended by themselves."""
    _daemon: Daemon | None = None
    _stack: ExitStack = field(default_factory=ExitStack)

    def start(self) -> None:
        """Start a daemon where none runs."""
        if self._daemon is not None:
            code = self._daemon.process.poll()
            if code is None:
                return
            if code > 0:
                self.ends.append(code)
        self._daemon = self._stack.enter_context(spawn_cdc(self.pair, "run", env=self.env))

    @property
    def daemon(self) -> Daemon:
        """The daemon that runs, or ran."""
        assert self._daemon is not None
        return self._daemon

    def kill(self) -> None:
        """Kill the daemon as the kernel does."""
        self.daemon.kill()

    def wait_for(self, query: str, *parameters: object, timeout_s: float = 120) -> bool:
        """Wait until a query of the target is true, a daemon always running; False: it is not."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self.start()
            if OPERATOR in self.ends:
                return False
            try:
                with psycopg.connect(self.pair.target_dsn, connect_timeout=5) as target:
                    row = target.execute(query, parameters).fetchone()
                if row is not None and row[0]:
                    return True
            except psycopg.Error:
                pass  # it is away: later
            time.sleep(0.05)
        return False

    def close(self) -> None:
        """End the daemon, in order if it can."""
        if self._daemon is not None and self._daemon.process.poll() is None:
            self._daemon.process.terminate()
            try:
                self._daemon.process.wait(COMMAND_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._daemon.kill()
        self._stack.close()


@contextmanager
def make_stage(pair: Pair) -> Iterator[Stage]:
    """Put a proxy before each server of a pair, for the daemon and not for the audit."""
    assert isinstance(pair.source, Server)
    assert isinstance(pair.target, Server)
    with (
        proxied(pair.source_dsn, **HURRIED, options=OPTIONS) as (before_source, source_dsn),
        proxied(pair.target_dsn, **HURRIED) as (before_target, target_dsn),
    ):
        through = ENV | {"CDC_SOURCE_DSN": source_dsn, "CDC_TARGET_DSN": target_dsn}
        stage = Stage(
            replace(pair), pair.source, pair.target, before_source, before_target, through
        )
        try:
            yield stage
        finally:
            stage.close()

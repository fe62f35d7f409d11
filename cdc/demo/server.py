"""Start and stop real, throwaway PostgreSQL servers: for `cdc demo` and for the tests.

A `ServerGroup` is a temporary folder with the servers of one installation in it: one `initdb`,
copied for each server. Servers listen on a port of the loopback interface and trust everyone there.

Promises: nothing is left, neither a process nor a file, when the group is closed, nor when this
process ends in any other way, SIGKILL included: a shell that waits for our end, the *guard*, then
does what `close` could not. Data is kept over `stop`, `kill` and `restart` of a server.
"""

import contextlib
import random
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from psycopg.conninfo import make_conninfo

from cdc.demo.installation import Account, Installation, make_folder, run, server_account, spawn
from cdc.errors import NeedsOperator

ServerSettings = Sequence[tuple[str, str]]

HOST = "127.0.0.1"
SUPERUSER = "postgres"

# Crash recovery after `kill` may take its time on a busy machine.
START_TIMEOUT_S = 60.0

# A fast shutdown waits for walsenders to be heard out; one whose client hangs would never be.
FAST_STOP_TIMEOUT_S = 10.0
IMMEDIATE_STOP_TIMEOUT_S = 5.0

# Below the ports that systems hand out to clients. On one of those, a client that keeps trying to
# reach a stopped server may be given that very port, connect to itself and so occupy it.
_PORTS = range(15_000, 32_000)

# Waits for a line or for our end, whichever comes first; what still runs then is stopped at once.
# Line 1 of postmaster.pid is the process id; the postmaster removes the file as its last act.
_GUARD = r"""
trap '' HUP INT TERM
read -r _
for file in "$1"/server-*/postmaster.pid; do
    [ -f "$file" ] && read -r pid < "$file" || continue
    kill -QUIT "$pid"
    for _ in 1 2 3 4 5 6 7 8 9 10; do [ -f "$file" ] || break; sleep 0.3; done
    [ ! -f "$file" ] || kill -KILL "$pid"
done
# A backend that a killed postmaster left may still write its last file.
rm -rf -- "$1" || { sleep 2; rm -rf -- "$1"; }
"""


def free_port() -> int:
    """Find a port of the loopback interface that nobody listens on."""
    for port in random.sample(_PORTS, 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port
    raise NeedsOperator(
        f"no free port between {_PORTS.start} and {_PORTS.stop}", hint="stop other servers"
    )


@dataclass(slots=True, eq=False)
class Server:
    """One PostgreSQL server: its data directory, its port and, while it runs, its postmaster."""

    installation: Installation
    account: Account | None
    data_dir: Path
    port: int
    log: Path
    _postmaster: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def conninfo(self, database: str = SUPERUSER, user: str = SUPERUSER) -> str:
        """Give the connection string of a database for a role."""
        return make_conninfo(host=HOST, port=self.port, dbname=database, user=user)

    @property
    def running(self) -> bool:
        """Tell whether the postmaster lives."""
        return self._postmaster is not None and self._postmaster.poll() is None

    def start(self) -> None:
        """Start the server and return when it takes connections."""
        assert not self.running, "the server runs already"
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._start_once(deadline):
            # After `kill` the last backends may outlive the postmaster for a moment, and a new one
            # refuses to start beside them.
            if "shared memory block" not in self._log_tail() or time.monotonic() > deadline:
                raise NeedsOperator(
                    f"PostgreSQL {self.installation.version} did not start: {self._log_tail()}",
                    hint="see the server's message above",
                )
            time.sleep(0.1)

    def _start_once(self, deadline: float) -> bool:
        with self.log.open("wb") as log:
            program = self.installation.program("postgres")
            self._postmaster = spawn([program, "-D", self.data_dir], self.account, output=log)
        while self._postmaster.poll() is None:
            if self._takes_connections(self._postmaster.pid):
                return True
            if time.monotonic() > deadline:
                self.stop()
                break
            time.sleep(0.02)
        return False

    def _takes_connections(self, pid: int) -> bool:
        """Read postmaster.pid as pg_ctl does: line 1 is the process, line 8 its state."""
        try:
            lines = (self.data_dir / "postmaster.pid").read_text().split("\n")
        except FileNotFoundError:
            return False
        # The file of a postmaster that was killed stays behind and says "ready" too.
        return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"  # noqa: PLR2004

    def _log_tail(self) -> str:
        return " / ".join(self.log.read_text(errors="replace").splitlines()[-5:])

    def stop(self) -> None:
        """Disconnect the clients, let walsenders finish, and stop; more harshly past a limit."""
        if self._postmaster is None:
            return
        for signum, timeout_s in (
            (signal.SIGINT, FAST_STOP_TIMEOUT_S),
            (signal.SIGQUIT, IMMEDIATE_STOP_TIMEOUT_S),
        ):
            self._postmaster.send_signal(signum)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._postmaster.wait(timeout_s)
                return
        self.kill()

    def kill(self) -> None:
        """Kill the postmaster as a crash would: no shutdown, no checkpoint."""
        if self._postmaster is not None:
            self._postmaster.kill()
            self._postmaster.wait()

    def restart(self) -> None:
        """Stop the server and start it on the same port with the same data."""
        self.stop()
        self.start()


class ServerGroup:
    """The servers of one installation, in one temporary folder that goes when the group closes."""

    __slots__ = ("_account", "_folder", "_guard", "_servers", "installation")

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self._account = server_account()
        self._folder = make_folder(self._account)
        # In the servers' account: the folder is theirs, and so is what the guard reads in it.
        guard = ["/bin/sh", "-c", _GUARD, "cdc-servers-guard", str(self._folder)]
        self._guard = spawn(guard, self._account, stdin=subprocess.PIPE)
        self._servers: dict[str, Server] = {}
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        if self._account is not None and not self.installation.runs_as(self._account):
            self.installation = self.installation.copy_to(self._folder, self._account)
        initdb = self.installation.program("initdb")
        options = ["-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        run([initdb, "-D", self._folder / "template", *options], self._account)

    def start(self, name: str, settings: ServerSettings = ()) -> Server:
        """Make a server with these settings in its postgresql.conf, and start it."""
        assert name not in self._servers, f"there is a server {name} already"
        data_dir = self._folder / f"server-{name}"
        run(["cp", "-R", self._folder / "template", data_dir], self._account)
        port = free_port()
        ours = (
            ("listen_addresses", HOST),
            ("port", str(port)),
            ("unix_socket_directories", ""),
            # In files of the data directory: a server that is killed leaves nothing elsewhere.
            ("dynamic_shared_memory_type", "mmap"),
        )
        with (data_dir / "postgresql.conf").open("a") as conf:
            conf.writelines(
                f"{setting} = {_quoted(value)}\n" for setting, value in (*ours, *settings)
            )
        server = Server(
            self.installation, self._account, data_dir, port, self._folder / f"{name}.log"
        )
        self._servers[name] = server
        server.start()
        return server

    def close(self) -> None:
        """Stop the servers and remove the folder."""
        for server in self._servers.values():
            server.stop()
            # Of a killed one: by now its number may be another process's, and the guard trusts it.
            (server.data_dir / "postmaster.pid").unlink(missing_ok=True)
        self._servers.clear()
        if self._guard.poll() is None:
            self._guard.communicate(b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _quoted(value: str) -> str:
    """Quote a value for postgresql.conf."""
    return "'" + value.replace("'", "''") + "'"

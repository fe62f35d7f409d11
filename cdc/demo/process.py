"""`cdc` on a pair as a process of its own, as an operator or systemd would run it.

One at a time, each with what it says in a file, since its lines would garble a live display.

Promises: neither the process nor the folder with its state is left when the runner is closed, nor
when this process ends in any other way, SIGKILL included: see the guard in `server`.
"""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from cdc.demo.installation import spawn
from cdc.demo.pair import Pair
from cdc.errors import NeedsOperator

# The contract: SIGTERM finishes the batch in hand and ends within this time.
STOP_TIMEOUT_S = 10.0

_POLL_S = 0.05

_TAIL_LINES = 8

_GUARD = r"""
trap '' HUP INT TERM
read -r _
[ ! -f "$1/pid" ] || { read -r pid < "$1/pid" && kill -KILL "$pid"; }
rm -rf -- "$1" || { sleep 1; rm -rf -- "$1"; }
"""


class Runner:
    """Runs `cdc` commands on a pair."""

    __slots__ = ("_command", "_environment", "_folder", "_guard", "_process")

    def __init__(self, pair: Pair) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="cdc-demo-"))
        guard: list[str | Path] = ["/bin/sh", "-c", _GUARD, "cdc-demo-guard", self._folder]
        self._guard = spawn(guard, None, stdin=subprocess.PIPE)
        # What the caller's shell says of cdc or libpq is meant for other databases.
        ours = {k: v for k, v in os.environ.items() if not k.startswith(("CDC_", "PG"))}
        self._environment = ours | {
            "CDC_SOURCE_DSN": pair.source_dsn,
            "CDC_TARGET_DSN": pair.target_dsn,
            "CDC_STATE_DIR": str(self._folder / "state"),
            "CDC_HTTP_LISTEN": "",  # a daemon may run on this machine already
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._command = ""

    def start(self, *arguments: str) -> None:
        """Start a command; the one before it has ended."""
        assert self._process is None, f"`{self._command}` still runs"
        self._command = " ".join(("cdc", *arguments))
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cdc", *arguments],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C in the terminal reaches us alone.
                start_new_session=True,
            )
        self._pid.write_text(f"{self._process.pid}\n")

    def ended(self) -> bool:
        """Tell whether the command has ended by itself; raise where its status is not 0."""
        assert self._process is not None
        if self._process.poll() is None:
            return False
        status = self._reap()
        if status != 0:
            raise self._failure(f"ended with status {status}")
        return True

    def check_runs(self) -> None:
        """Raise where the command has ended by itself."""
        if self.ended():
            raise self._failure("ended before its time")

    def kill(self) -> None:
        """End the command as the kernel would when memory is short: kill -9."""
        assert self._process is not None
        self._process.kill()
        self._reap()

    async def terminate(self) -> float:
        """Ask the command to end, as systemd does; return the seconds that it took."""
        assert self._process is not None
        since = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                while not self.ended():  # noqa: ASYNC110  # a process sets no event
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise self._failure(f"was still there {STOP_TIMEOUT_S:.0f} s after SIGTERM") from None
        return time.monotonic() - since

    def close(self) -> None:
        """Kill what still runs and remove the folder."""
        if self._process is not None:
            self.kill()
        if self._guard.poll() is None:
            self._guard.communicate(b"\n")

    def _reap(self) -> int:
        assert self._process is not None
        # By the next moment its number may be another process's, and the guard trusts it.
        self._pid.unlink(missing_ok=True)
        status = self._process.wait()
        self._process = None
        return status

    def _failure(self, what: str) -> NeedsOperator:
        lines = self._log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        said = "".join(f"\n  {line}" for line in lines)
        return NeedsOperator(
            f"`{self._command}` {what}; it said last:{said}", hint="report this with these lines"
        )

    @property
    def _log(self) -> Path:
        return self._folder / "log"

    @property
    def _pid(self) -> Path:
        return self._folder / "pid"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

"""`cdc lag --watch` as a person sees it on a terminal, and as a script reads it from a pipe."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread

import pytest

from tests.accounts import INSERT, SCHEMA
from tests.databases import migrate, run_sql, wait_until
from tests.faults.proxy import Fault, proxied
from tests.pair import Pair
from tests.process import environment, ok, run_cdc

ESCAPE = "\x1b"
BAR = "█"


@dataclass(slots=True)
class Watching:
    """A watch beside the test, and what it has written so far."""

    process: subprocess.Popen[bytes]
    _written: list[bytes] = field(default_factory=list)

    def text(self) -> str:
        """Give what it has written."""
        return b"".join(self._written).decode(errors="replace")

    def read(self, descriptor: int) -> None:
        """Read until the end."""
        try:
            while chunk := os.read(descriptor, 1 << 16):
                self._written.append(chunk)
        except OSError:
            pass  # the end of a terminal is an error on Linux

    def wait_for(self, text: str) -> None:
        """Wait until it has written a text."""
        wait_until(lambda: text in self.text())

    def interrupt(self) -> int:
        """Press Ctrl-C, and give the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(10)


@pytest.fixture
def tiny(pair: Pair) -> Pair:
    """Two databases that are equal, and nobody who streams."""
    migrate(pair, SCHEMA)
    ok(pair, "init")
    return pair


def test_on_a_terminal(tiny: Pair) -> None:
    """What is behind is drawn in place, with bars; Ctrl-C ends it, and that is no failure."""
    with on_terminal(tiny) as watching:
        watching.wait_for("behind")
        run_sql(tiny.source_dsn, INSERT, 1, 1000)
        watching.wait_for(BAR)
        assert watching.interrupt() == 0
    drawn = watching.text()
    assert f"{ESCAPE}[31m" in drawn, "nobody streams: that is red"
    assert drawn.rstrip().endswith(f"{ESCAPE}[?25h"), "the cursor is back"
    assert "Traceback" not in drawn


def test_a_terminal_without_colours(tiny: Pair) -> None:
    """NO_COLOR is heeded; a terminal that cannot draw gets lines."""
    with on_terminal(tiny, {"NO_COLOR": "1"}) as watching:
        watching.wait_for("behind")
        assert watching.interrupt() == 0
    assert f"{ESCAPE}[31m" not in watching.text()
    with on_terminal(tiny, {"TERM": "dumb"}) as watching:
        watching.wait_for("behind")
        assert watching.interrupt() == 0
    assert ESCAPE not in watching.text()


def test_a_source_that_goes_away_and_comes_back(tiny: Pair) -> None:
    """The watch says so, in its picture, and goes on when the source is there again."""
    with (
        proxied(tiny.source_dsn) as (proxy, through),
        on_terminal(tiny, {"CDC_SOURCE_DSN": through}) as watching,
    ):
        watching.wait_for("behind")
        proxy.begin(Fault.RESET)
        watching.wait_for("away, trying again in")
        proxy.heal()
        run_sql(tiny.source_dsn, INSERT, 1, 1000)
        watching.wait_for(BAR)
        assert watching.interrupt() == 0


def test_a_source_that_goes_away_under_a_script(tiny: Pair) -> None:
    """The word about it is on stderr; stdout stays one JSON object a line."""
    with proxied(tiny.source_dsn) as (proxy, through):
        env = {"CDC_SOURCE_DSN": through}
        with on_pipe(tiny, "--json", env=env) as (watching, errors):
            watching.wait_for("\n")
            proxy.begin(Fault.END)
            errors.wait_for("the source is away, trying again in")
            before = watching.text().count("\n")
            proxy.heal()
            wait_until(lambda: watching.text().count("\n") > before)
            assert watching.interrupt() == 0
    for line in watching.text().splitlines():
        assert json.loads(line)["slot"] == tiny.slot
    assert "Traceback" not in errors.text()


def test_lines_without_a_terminal(tiny: Pair) -> None:
    """A line at once and each second, complete as soon as it is written; no escape codes."""
    with on_pipe(tiny) as (watching, errors):
        wait_until(lambda: watching.text().count("\n") >= 2)
        assert watching.interrupt() == 0
    assert (ESCAPE in watching.text(), errors.text()) == (False, "")
    assert all("behind 0 B" in line for line in watching.text().splitlines())


@pytest.mark.parametrize("limit", ["--max-bytes", "--max-seconds"])
def test_a_limit_ends_it(tiny: Pair, limit: str) -> None:
    """Once it is passed the watch ends with 1, with the measure that passed it last."""
    with on_pipe(tiny, "--json", limit, "10") as (watching, _errors):
        watching.wait_for("\n")
        run_sql(tiny.source_dsn, INSERT, 1, 1000)
        assert watching.process.wait(20) == 1
    *before, last = [json.loads(line)["lag_bytes"] for line in watching.text().splitlines()]
    assert (set(before), last > 10) == ({0}, True)


def test_a_reader_that_has_enough(tiny: Pair) -> None:
    """`cdc lag --watch | head -1` ends without a word."""
    result = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m cdc lag --watch | head -1; exit ${{PIPESTATUS[0]}}"],
        env=environment(tiny),
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert (result.returncode, result.stdout.count("\n"), result.stderr) == (0, 1, "")


def test_what_waiting_does_not_mend_is_no_watch(tiny: Pair) -> None:
    """A slot that is not there ends the watch as it ends `cdc lag`."""
    ok(tiny, "slot", "drop", "--yes")
    result = run_cdc(tiny, "lag", "--watch")
    assert (result.returncode, result.stdout) == (78, "")
    assert "cdc init" in result.stderr


COMMAND = [sys.executable, "-m", "cdc", "lag", "--watch"]


@contextmanager
def on_terminal(pair: Pair, env: Mapping[str, str] | None = None) -> Iterator[Watching]:
    """Watch on a terminal of its own."""
    leader, follower = pty.openpty()
    given = environment(pair, {"TERM": "xterm", "COLUMNS": "100"} | dict(env or {}))
    with subprocess.Popen(
        COMMAND, env=given, stdin=follower, stdout=follower, stderr=follower, start_new_session=True
    ) as process:
        os.close(follower)
        watching = Watching(process)
        reader = Thread(target=watching.read, args=(leader,))
        reader.start()
        try:
            yield watching
        finally:
            process.kill()
            process.wait()
            reader.join()
            os.close(leader)


@contextmanager
def on_pipe(
    pair: Pair, *options: str, env: Mapping[str, str] | None = None
) -> Iterator[tuple[Watching, Watching]]:
    """Watch where no terminal is; give stdout and stderr."""
    with subprocess.Popen(
        [*COMMAND, *options],
        env=environment(pair, env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        both = Watching(process), Watching(process)
        readers = [
            Thread(target=watching.read, args=(stream.fileno(),))
            for watching, stream in zip(both, (process.stdout, process.stderr), strict=True)
        ]
        for reader in readers:
            reader.start()
        try:
            yield both
        finally:
            process.kill()
            process.wait()
            for reader in readers:
                reader.join()

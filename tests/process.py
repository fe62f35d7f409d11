"""The console script as a process of its own, as an operator or systemd would run it.

`run_cdc` waits for the end of a command, `ok` and `drain` insist on a good one; `spawn_cdc` gives a
daemon that runs beside the test and is killed when its block is left. Nothing of the caller's
environment that could steer cdc or libpq reaches any of them.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.databases import fetch, wait_until
from tests.pair import Pair

# Generous: the machines of a CI are slow, and a test that hits it has failed anyway.
COMMAND_TIMEOUT_S = 120.0

# What the daemon logs when the initial copy is behind it.
STREAMING = '"message":"streaming"'


def scrubbed_environment() -> dict[str, str]:
    """Give this process's environment without what steers cdc or libpq."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("CDC_", "PG"))}


def environment(
    pair: Pair | None, changes: Mapping[str, str | None] | None = None
) -> dict[str, str]:
    """Give the environment in which a command works on the pair, with a test's `changes`.

    What a change sets to None is not there.
    """
    settings: dict[str, str] = {}
    if pair is not None:
        settings = {
            "CDC_SOURCE_DSN": pair.source_dsn,
            "CDC_TARGET_DSN": pair.target_dsn,
            "CDC_SOURCE_SLOT": pair.slot,
            "CDC_SOURCE_PUBLICATION": pair.publication,
            "CDC_SOURCE_PLUGIN": pair.plugin,
            "CDC_STATE_DIR": str(pair.state_dir),
            "CDC_HTTP_LISTEN": "",
        }
        if pair.max_rows is not None:
            settings["CDC_APPLY_MAX_ROWS"] = str(pair.max_rows)
        if pair.settings.exists():
            settings["CDC_CONFIG"] = str(pair.settings)
    changed = {**scrubbed_environment(), **settings, **(changes or {})}
    return {name: value for name, value in changed.items() if value is not None}


def run_cdc(
    pair: Pair | None,
    *arguments: str,
    env: Mapping[str, str | None] | None = None,
    timeout_s: float = COMMAND_TIMEOUT_S,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; the caller judges exit code and output."""
    return subprocess.run(
        [sys.executable, "-m", "cdc", *arguments],
        env=environment(pair, env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        text=True,
        timeout=timeout_s,
    )


def ok(
    pair: Pair, *arguments: str, timeout_s: float = COMMAND_TIMEOUT_S
) -> subprocess.CompletedProcess[str]:
    """Run a command that has to exit 0."""
    result = run_cdc(pair, *arguments, timeout_s=timeout_s)
    assert result.returncode == 0, result.stderr
    return result


def drain(pair: Pair, timeout_s: float = COMMAND_TIMEOUT_S) -> None:
    """Bring the target up to date."""
    ok(pair, "run", "--until-current", timeout_s=timeout_s)


def slots(pair: Pair) -> list[dict[str, object]]:
    """Give this pair's slots, as `slot list --json` has them: it lists the whole server's."""
    listed: list[dict[str, object]] = json.loads(ok(pair, "slot", "list", "--json").stdout)["slots"]
    return [slot for slot in listed if slot["database"] == pair.slot]


def last_words(log: str) -> str:
    """Give the message and the hint that a log ends with."""
    said = json.loads(log.splitlines()[-1])
    return f"{said['message']}\n{said['hint']}"


@dataclass(frozen=True, slots=True)
class Daemon:
    """A command that runs beside the test; its output goes to two files."""

    process: subprocess.Popen[bytes]
    stdout: Path
    stderr: Path

    def log(self) -> str:
        """Give what it has logged so far."""
        return self.stderr.read_text(errors="replace")

    def wait_for_log(self, text: str, timeout_s: float = COMMAND_TIMEOUT_S) -> None:
        """Wait until the log says `text`; fail when the daemon ends before, or takes too long."""
        deadline = time.monotonic() + timeout_s
        while text not in self.log():
            # Read once more after the end: the text may be the last that it said.
            ended = self.process.poll() is not None and text not in self.log()
            assert not ended, f"ended with {self.process.returncode} before {text!r}: {self.log()}"
            assert time.monotonic() < deadline, f"no {text!r} in {timeout_s} s: {self.log()}"
            time.sleep(0.05)

    def terminate(self, timeout_s: float = 10.0) -> int:
        """Ask it to end, as systemd does, and give its exit code; fail when it takes longer."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        """End it as the kernel would when memory is short."""
        self.process.kill()
        self.process.wait()


@contextmanager
def spawn_cdc(
    pair: Pair,
    *arguments: str,
    env: Mapping[str, str | None] | None = None,
    script: str | None = None,
) -> Iterator[Daemon]:
    """Start a command beside the test, in a session of its own, and kill it at the end.

    `script` is Python that runs in place of `python -m cdc`, to change a constant, say.
    """
    pair.state_dir.mkdir(parents=True, exist_ok=True)
    # A pair may see several daemons, one after the other or at once: each has its own files.
    run = len(list(pair.state_dir.parent.glob("*.stderr")))
    stdout = pair.state_dir.parent / f"{run}.stdout"
    stderr = pair.state_dir.parent / f"{run}.stderr"
    with (
        stdout.open("wb") as output,
        stderr.open("wb") as log,
        subprocess.Popen(
            [sys.executable, *(("-m", "cdc") if script is None else ("-c", script)), *arguments],
            env=environment(pair, env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=log,
            start_new_session=True,
        ) as process,
    ):
        try:
            yield Daemon(process, stdout, stderr)
        finally:
            process.kill()


@contextmanager
def streaming(pair: Pair, env: Mapping[str, str | None] | None = None) -> Iterator[Daemon]:
    """Run the daemon, past its initial copy."""
    with spawn_cdc(pair, "run", env=env) as daemon:
        daemon.wait_for_log(STREAMING)
        wait_until(lambda: daemon.process.poll() is not None or all_copied(pair), 60)
        yield daemon


def all_copied(pair: Pair) -> bool:
    """Tell whether no table of a pair is on its way, or is waited for, and no session copies."""
    query = (
        "select bool_and(completed_at is not null) and not exists (select from pg_stat_activity"
        " where datname = current_database() and application_name = 'cdc copy') from cdc.copy"
    )
    return fetch(pair.target_admin_dsn, query) == [True]

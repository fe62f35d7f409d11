"""Who copies rows that are there before: psql, the server's own subscription, the daemon.

Each is given an empty target, and is done when all rows are visible there.
"""

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import psycopg

from tests.bench.arena import Lane
from tests.bench.drain import TIMEOUT_S
from tests.process import ok, scrubbed_environment

_POLL_S = 0.01


class Copier(Protocol):
    """One way to copy tables."""

    @property
    def name(self) -> str:
        """As in reports; a part of the slot's name too."""

    def copy(self, lane: Lane, tables: Sequence[str]) -> None:
        """Copy all rows, and return when they are there."""

    def finish(self, lane: Lane) -> None:
        """Take back what would hold the target's database."""


@dataclass(frozen=True, slots=True)
class Psql:
    """`psql COPY | psql COPY`, one table after the other, in the same roles as the daemon."""

    name: str = "psql"

    def copy(self, lane: Lane, tables: Sequence[str]) -> None:
        """Pipe one into the other."""
        program = lane.arena.sides.source.installation.program("psql")
        options = [str(program), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"]
        for table in tables:
            out = [*options, f"--dbname={lane.arena.source_dsn}", f"-ccopy {table} to stdout"]
            into = [*options, f"--dbname={lane.target_dsn}", f"-ccopy {table} from stdin"]
            env = scrubbed_environment()
            with subprocess.Popen(out, env=env, stdout=subprocess.PIPE) as reads:
                subprocess.run(into, env=env, stdin=reads.stdout, check=True, timeout=TIMEOUT_S)
            assert reads.returncode == 0, f"psql could not read {table}"

    def finish(self, lane: Lane) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True)
class Initial:
    """The initial copy of a subscription, with as many workers as it has by default."""

    name: str = "native"

    def copy(self, lane: Lane, tables: Sequence[str]) -> None:  # noqa: ARG002 - they are published
        """Subscribe, and wait for all tables."""
        with psycopg.connect(lane.target_admin_dsn, autocommit=True) as target:
            target.execute(
                f"create subscription {lane.slot} connection '{lane.subscribed_dsn}'"
                f" publication {lane.arena.name}".encode()
            )
            missing = "select from pg_subscription_rel where srsubstate <> 'r'"
            deadline = time.monotonic() + TIMEOUT_S
            while target.execute(missing).fetchone() is not None:
                assert time.monotonic() < deadline, "the subscription does not copy"
                time.sleep(_POLL_S)

    def finish(self, lane: Lane) -> None:
        """Drop the subscription, which would hold the database."""
        with psycopg.connect(lane.target_admin_dsn, autocommit=True) as target:
            target.execute(f"drop subscription {lane.slot}".encode())


@dataclass(frozen=True, slots=True)
class Init:
    """`cdc init`, from the start of its process to its end."""

    name: str = "cdc"

    def copy(self, lane: Lane, tables: Sequence[str]) -> None:  # noqa: ARG002 - they are published
        """Make all ready."""
        ok(lane.pair, "init", timeout_s=TIMEOUT_S)

    def finish(self, lane: Lane) -> None:
        """Nothing."""

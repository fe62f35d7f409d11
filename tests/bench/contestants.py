"""Who drains a backlog: the decode ceiling, the server's own subscription, the daemon.

Each is given a lane, whose slot holds the backlog and whose target holds the rows before it. What
can be done ahead is done in `prepare`; `run` is what is measured. pg_recvlogical reads what the
daemon reads, pgoutput in version 1; a subscription is as CREATE SUBSCRIPTION makes it.
"""

import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

import psycopg

from tests.bench.arena import Backlog, Lane, Watch
from tests.databases import wait_until
from tests.process import Daemon, ok, scrubbed_environment, spawn_cdc

END_TIMEOUT_S = 60.0


class Run(Protocol):
    """A contestant at work."""

    @property
    def pid(self) -> int | None:
        """The contestant's own process, where it is not one of the server's."""

    def finished(self, watch: Watch) -> bool:
        """Tell whether all of the backlog is there; a cheap look."""

    def end(self) -> None:
        """Wait for its end, or bring it about, and assert that it was a good one."""


class Contestant(Protocol):
    """One way to drain a slot."""

    @property
    def name(self) -> str:
        """As in reports; a part of the slot's name too."""

    @property
    def copies(self) -> bool:
        """Whether the target has the rows afterwards."""

    def prepare(self, lane: Lane) -> None:
        """Do what comes before the slot is read."""

    def run(self, lane: Lane, backlog: Backlog | None) -> AbstractContextManager[Run]:
        """Start reading the slot; without a backlog until the end of the block."""


@dataclass(slots=True)
class _Process:
    """A contestant that is a process of its own."""

    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int | None:
        return self.process.pid

    def finished(self, watch: Watch) -> bool:  # noqa: ARG002 - it writes to no target
        return self.process.poll() is not None

    def end(self) -> None:
        assert self.process.wait(END_TIMEOUT_S) == 0, f"{self.process.args!r} failed"


@dataclass(frozen=True, slots=True)
class Recvlogical:
    """Decodes and sends, and throws away: as fast as any subscriber can be."""

    name: str = "ceiling"
    copies: bool = False

    def prepare(self, lane: Lane) -> None:
        """Nothing."""

    @contextmanager
    def run(self, lane: Lane, backlog: Backlog | None) -> Iterator[Run]:
        """Read up to the end."""
        assert backlog is not None, "it would read for ever"
        program = lane.arena.sides.source.installation.program("pg_recvlogical")
        options = (
            f"--dbname={lane.arena.source_dsn}",
            f"--slot={lane.slot}",
            f"--endpos={backlog.end}",
            "--file=/dev/null",
            "--option=proto_version=1",
            f"--option=publication_names={lane.arena.name}",
        )
        with subprocess.Popen(
            [program, "--start", "--no-loop", *options],
            env=scrubbed_environment(),
            stdin=subprocess.DEVNULL,
        ) as process:
            try:
                yield _Process(process)
            finally:
                process.kill()


@dataclass(slots=True)
class _Subscription:
    """The server's workers, which are told to stop."""

    lane: Lane

    @property
    def pid(self) -> int | None:
        return None

    def finished(self, watch: Watch) -> bool:
        return watch.marked()

    def end(self) -> None:
        slot = self.lane.slot
        with psycopg.connect(self.lane.target_admin_dsn, autocommit=True) as target:
            target.execute(f"alter subscription {slot} disable".encode())
            workers = "select from pg_stat_subscription where pid is not null and subname = %s"
            wait_until(lambda: target.execute(workers, (slot,)).fetchone() is None, END_TIMEOUT_S)


@dataclass(frozen=True, slots=True)
class Native:
    """A subscription of the target's server, made by a superuser, with the server's defaults."""

    name: str = "native"
    copies: bool = True

    def prepare(self, lane: Lane) -> None:
        """Make it, disabled."""
        with psycopg.connect(lane.target_admin_dsn, autocommit=True) as target:
            target.execute(
                f"create subscription {lane.slot} connection '{lane.subscribed_dsn}'"
                f" publication {lane.arena.name} with (copy_data = false, create_slot = false,"
                f" enabled = false, slot_name = '{lane.slot}')".encode()
            )

    @contextmanager
    def run(self, lane: Lane, backlog: Backlog | None) -> Iterator[Run]:  # noqa: ARG002
        """Enable it; its slot stays when it goes."""
        run = _Subscription(lane)
        with psycopg.connect(lane.target_admin_dsn, autocommit=True) as target:
            connection = f"connection '{lane.subscribed_dsn}'"
            target.execute(f"alter subscription {lane.slot} {connection}".encode())
            target.execute(f"alter subscription {lane.slot} enable".encode())
            try:
                yield run
            finally:
                run.end()
                target.execute(f"alter subscription {lane.slot} set (slot_name = none)".encode())
                target.execute(f"drop subscription {lane.slot}".encode())


@dataclass(slots=True)
class _Daemon:
    """The daemon, which is ready when the target is, and ends by itself."""

    daemon: Daemon

    @property
    def pid(self) -> int | None:
        return self.daemon.process.pid

    def finished(self, watch: Watch) -> bool:
        code = self.daemon.process.poll()
        assert code in {None, 0}, self.daemon.log()
        return watch.marked()

    def end(self) -> None:
        assert self.daemon.process.wait(END_TIMEOUT_S) == 0, self.daemon.log()


@dataclass(frozen=True, slots=True)
class Cdc:
    """`cdc run`, on a target that was told to hold the source's rows as of the slot."""

    name: str = "cdc"
    copies: bool = True

    def prepare(self, lane: Lane) -> None:
        """Write its bookkeeping."""
        ok(lane.pair, "init", "--no-snapshot")

    @contextmanager
    def run(self, lane: Lane, backlog: Backlog | None) -> Iterator[Run]:
        """Run it until it holds the backlog."""
        until = () if backlog is None else ("--until-lsn", backlog.end)
        with spawn_cdc(lane.pair, "run", *until) as daemon:
            yield _Daemon(daemon)


CONTESTANTS: tuple[Contestant, ...] = (Recvlogical(), Native(), Cdc())

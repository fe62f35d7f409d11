"""The main job from its beginning to its proof, on two throwaway servers and in real processes.

    load ─► writer starts ─► `cdc run`: copy, stream ─► kill -9 ─► `cdc run` ─► writer stops
         ─► SIGTERM ─► `cdc run --until-current` ─► every row compared

The writer writes all the while, also during the copy. Nothing of this is simulated: the daemon is
the one of `cdc run`, its settings are the defaults.

Promises: whatever ends it (the end, an error, SIGINT, SIGTERM, SIGHUP) leaves neither a process nor
a folder behind. Signals are heard between steps, never inside one, so that what a step has begun is
known to whoever cleans up; the longest step that cannot be left is `initdb`.
"""

import asyncio
import signal
from collections.abc import Coroutine
from dataclasses import dataclass
from time import monotonic

from cdc.assure.verify.comparison import TableComparison
from cdc.assure.verify.quiet import compare
from cdc.demo.display import Display
from cdc.demo.installation import find_embedded
from cdc.demo.meter import NOTHING_APPLIED, Meter
from cdc.demo.pair import Pair, make_pair
from cdc.demo.process import Runner
from cdc.demo.server import ServerGroup
from cdc.demo.workload import Workload, load
from cdc.postgres.session import Connection, connect

SCHEMA = "credit"

# Transactions a second, of about five changes each.
WRITER_RATE = 200.0

_TICK_S = 0.1


class Interrupted(Exception):
    """A signal ended the rehearsal before its end; everything is cleaned up."""

    def __init__(self, signum: signal.Signals) -> None:
        super().__init__(signum.name)
        self.signum = signum


@dataclass(slots=True)
class Outcome:
    """What was done, and whether it was right; the fields are those of `cdc demo --json`."""

    equal: bool
    tables: dict[str, TableComparison]
    rows_copied: int
    transactions: int
    changes: int
    changes_per_second: float
    max_lag_bytes: int
    max_lag_seconds: float
    seconds: float


def rehearse(rows: int, seconds: float, display: Display) -> Outcome:
    """Copy about `rows` rows, stream for so many seconds, compare; raises Interrupted."""
    return asyncio.run(_until_signal(_rehearse(rows, seconds, display)))


async def _until_signal(work: Coroutine[None, None, Outcome]) -> Outcome:
    task = asyncio.ensure_future(work)
    received: list[signal.Signals] = []

    def stop(signum: signal.Signals) -> None:
        # A second one must not interrupt the cleaning up that the first one began.
        if not received:
            task.cancel()
        received.append(signum)

    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(signum, stop, signum)
    try:
        return await task
    except (Exception, asyncio.CancelledError):
        if received:
            raise Interrupted(received[0]) from None
        raise


async def _rehearse(rows: int, seconds: float, display: Display) -> Outcome:
    installation = find_embedded()
    display.show("starting", f"two PostgreSQL {installation.version} servers")
    # Blocks the loop, and so the signals: what is half started could not be stopped.
    with ServerGroup(installation) as servers:
        await asyncio.sleep(0)
        pair = make_pair(servers)
        await asyncio.sleep(0)
        display.say(f"two PostgreSQL {pair.version} servers, the credit schema on both")
        loaded = await _load(pair, rows, display)
        async with (
            await connect(pair.source_dsn, application_name="cdc demo") as source,
            await connect(pair.target_dsn, application_name="cdc demo", side="target") as target,
        ):
            with Runner(pair) as runner, Workload(pair.source_dsn, rate=WRITER_RATE) as writer:
                job = _Job(display, runner, writer, Meter(source, target))
                await job.copy(loaded)
                await job.stream(seconds)
                await job.drain()
            tables = await _compare(source, target, display)
    return job.outcome(tables)


async def _load(pair: Pair, rows: int, display: Display) -> int:
    done: dict[str, int] = {}

    def show(table: str, so_far: int, _planned: int) -> None:
        done[table] = so_far
        total = sum(done.values())
        display.show("loading", f"{total:,} rows", min(1, total / rows))

    # A thread cannot be cancelled: when we are, this one ends with its session, once the server
    # stops.
    counts = await asyncio.to_thread(load, pair.source_dsn, rows, progress=show)
    display.say(f"{sum(counts.values()):,} rows in {len(counts)} tables of the source")
    return sum(counts.values())


class _Job:
    """The daemon's job while the writer goes on, stage by stage."""

    def __init__(self, display: Display, runner: Runner, writer: Workload, meter: Meter) -> None:
        self._display = display
        self._runner = runner
        self._writer = writer
        self._meter = meter
        self._applied = NOTHING_APPLIED
        self._streaming_since = 0.0
        self._streaming_s = 0.0
        self._max_lag_bytes = 0
        self._max_lag_s = 0.0

    async def copy(self, expected_rows: int) -> None:
        """Start the daemon and wait until all tables are copied."""
        self._display.say(f"a writer starts: {WRITER_RATE:.0f} transactions a second; `cdc run`")
        self._runner.start("run")
        while not self._applied.copied:
            self._check()
            self._applied = await self._meter.applied()
            rows = self._applied.rows_copied
            share = min(1, rows / expected_rows)
            self._display.show("copying", f"{rows:,} rows", share)
            await asyncio.sleep(_TICK_S)
        self._streaming_since = monotonic()
        self._display.say(f"{self._applied.rows_copied:,} rows copied while the writer went on")

    async def stream(self, seconds: float) -> None:
        """Watch the daemon for so long; kill it in the middle, and start another."""
        end = monotonic() + seconds
        while monotonic() < end - seconds / 2:
            await self._watch(1 - (end - monotonic()) / seconds)
        self._runner.kill()
        killed_at, epoch = monotonic(), (await self._meter.applied()).epoch
        self._display.say("kill -9 of the daemon in mid-stream; `cdc run` again")
        self._runner.start("run")
        while self._applied.epoch <= epoch:
            await self._watch(0.5)
        away_s = monotonic() - killed_at
        self._display.say(f"the next daemon streams on from the checkpoint, {away_s:.1f} s later")
        while monotonic() < end:
            await self._watch(1 - (end - monotonic()) / seconds)

    async def drain(self) -> None:
        """Stop the writer, then the daemon, and let another command apply what is left."""
        self._writer.stop()
        self._display.say(f"the writer stops after {self._writer.transactions:,} transactions")
        took_s = await self._runner.terminate()
        self._display.say(f"SIGTERM: the daemon finishes its batch and exits 0, in {took_s:.1f} s")
        self._runner.start("run", "--until-current")
        while not self._runner.ended():
            lag = await self._meter.lag_bytes()
            self._display.show("draining", f"{lag // 1024:,} kB behind")
            await asyncio.sleep(_TICK_S)
        self._streaming_s = monotonic() - self._streaming_since
        self._applied = await self._meter.applied()
        self._display.say("`cdc run --until-current`: all that was committed is on the target")

    def outcome(self, tables: dict[str, TableComparison]) -> Outcome:
        """Sum up."""
        return Outcome(
            equal=all(table.equal for table in tables.values()),
            tables=tables,
            rows_copied=self._applied.rows_copied,
            transactions=self._applied.transactions,
            changes=self._applied.changes,
            changes_per_second=round(self._applied.changes / self._streaming_s, 1),
            max_lag_bytes=self._max_lag_bytes,
            max_lag_seconds=round(self._max_lag_s, 3),
            seconds=round(self._display.seconds, 3),
        )

    async def _watch(self, share: float) -> None:
        self._check()
        self._applied = await self._meter.applied()
        lag = await self._meter.lag_bytes()
        lag_s = self._applied.seconds_behind or 0.0
        self._max_lag_bytes = max(self._max_lag_bytes, lag)
        self._max_lag_s = max(self._max_lag_s, lag_s)
        self._display.show(
            "streaming",
            f"{self._applied.changes:,} changes applied, {lag // 1024:,} kB behind ({lag_s:.1f} s)",
            share,
        )
        await asyncio.sleep(_TICK_S)

    def _check(self) -> None:
        """Raise where the daemon or the writer has ended."""
        self._runner.check_runs()
        if not self._writer.running:
            self._writer.stop()  # raises what ended it


async def _compare(
    source: Connection, target: Connection, display: Display
) -> dict[str, TableComparison]:
    def show(table: str, counts: TableComparison) -> None:
        display.show("comparing", f"{table}, {counts.source_rows:,} rows")

    tables = await compare(source, target, [SCHEMA], show)
    rows = sum(table.source_rows for table in tables.values())
    display.say(f"{rows:,} rows of {len(tables)} tables compared with their copies")
    return tables

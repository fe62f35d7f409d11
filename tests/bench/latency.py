"""`latency`: from a commit on the source until its row is visible on the target.

A writer in a process of its own commits one row per transaction at a steady rate and notes when
each commit came back. Meanwhile this process asks the target for the newest row as often as it can
while one is under way: each answer makes all rows up to it visible. Both clocks are the machine's
monotonic one. What a poll takes (some 0.1 ms) is in every contestant's figures.
"""

import multiprocessing
import statistics
import time
from collections.abc import Iterator
from ctypes import c_longlong
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

import psycopg

from tests.bench.arena import Arena, Lane, prepared, watcher
from tests.bench.bench import Bench
from tests.bench.contest import in_turn, slot_name
from tests.bench.contestants import Cdc, Contestant, Native
from tests.bench.equality import contents
from tests.bench.figures import Latency
from tests.databases import wait_until

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

RATES = (50, 400, 500, 2_000)
"""Transactions per second."""

SECONDS = 20
WARM_UP = 50
"""Transactions that are not counted: caches and plans are made on both sides."""

# While nothing is under way, so that looking for it costs next to nothing.
_IDLE_S = 0.00005
# A row that is late is waited for with less fervour, or looking would be what makes it late.
_LATE_S, _LATE_POLL_S = 0.005, 0.0005

_TIMEOUT_S = 60.0

_INSERT = (
    "insert into credit.audit_events (id, actor, entity, entity_key, action)"
    " values (%s, 'bench', 'latency', 'one', 'created')"
)
_NEWEST = "select coalesce(max(id), 0) from credit.audit_events"

CONTESTANTS: tuple[Contestant, ...] = (Native(), Cdc())


@dataclass(frozen=True, slots=True)
class _Load:
    """Transactions that a writer commits: rows numbered from `first` on."""

    dsn: str
    rate: int
    first: int
    count: int


def run(bench: Bench) -> Iterator[Latency]:
    """Measure each contestant at each rate."""
    for number in range(1, bench.rounds + 1):
        for contestant in in_turn(CONTESTANTS, number):
            with prepared(bench.sides, f"bench_latency_{number}") as arena:
                for one in _turn(bench, arena, contestant, number):
                    said = f"{one.p50_ms:.2f} ms, {one.p99_ms:.2f} ms of p99"
                    what = f"latency, round {number}, {contestant.name}, {one.rate} per second"
                    bench.display.say(f"{what}: {said}")
                    yield one


def _turn(bench: Bench, arena: Arena, contestant: Contestant, number: int) -> Iterator[Latency]:
    """Start one contestant, and measure it at all rates."""
    slot = slot_name(arena.name, contestant, number)
    arena.publish([slot])
    with arena.lane(slot) as lane:
        contestant.prepare(lane)
        with contestant.run(lane, None):
            with lane.watched() as watch:
                wait_until(lambda: watch.walsender() is not None)
            first = 1
            for rate in RATES:
                bench.display.show(f"latency, {contestant.name}", f"{rate} per second")
                count = WARM_UP + round(rate * max(1.0, SECONDS * bench.scale))
                load = _Load(arena.source_dsn, rate, first, count)
                yield _measure(lane, load, contestant.name, number)
                first += count
            contents(arena.source_admin_dsn).assert_equal(lane.target_admin_dsn)


def _measure(lane: Lane, load: _Load, contestant: str, number: int) -> Latency:
    """Have the load written, and see it come."""
    context = multiprocessing.get_context("spawn")
    newest = context.Value(c_longlong, load.first - 1)
    ours, theirs = context.Pipe()
    writer = context.Process(target=_write, args=(load, newest, theirs))
    writer.start()
    try:
        seen = _watch(lane, load, newest)
        committed: list[float] = ours.recv()
    finally:
        writer.kill()
        writer.join()
    late = [max(0.0, s - c) * 1000 for s, c in zip(seen, committed, strict=True)][WARM_UP:]
    hundredths = statistics.quantiles(late, n=100)
    return Latency(
        contestant=contestant,
        rate=load.rate,
        round=number,
        committed=len(late),
        seconds=committed[-1] - committed[WARM_UP - 1],
        p50_ms=hundredths[49],
        p95_ms=hundredths[94],
        p99_ms=hundredths[98],
        max_ms=max(late),
    )


def _write(load: _Load, newest: "Synchronized[int]", pipe: Connection) -> None:
    """Commit a row at a time; tell at the end when each was committed."""
    committed: list[float] = []
    with psycopg.connect(load.dsn, autocommit=True) as source:
        due = time.monotonic()
        for row in range(load.first, load.first + load.count):
            due += 1 / load.rate
            wait = due - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            source.execute(_INSERT, (row,))
            committed.append(time.monotonic())
            newest.value = row
    pipe.send(committed)


def _watch(lane: Lane, load: _Load, newest: "Synchronized[int]") -> list[float]:
    """Give when each row was first seen on the target."""
    seen: list[float] = []
    last = load.first - 1 + load.count
    there, under_way_since = load.first - 1, time.monotonic()
    with watcher(lane.target_admin_dsn) as target:
        while there < last:
            now = time.monotonic()
            if newest.value <= there:
                under_way_since = now
                time.sleep(_IDLE_S)
                continue
            row = target.execute(_NEWEST, prepare=True, binary=True).fetchone()
            now = time.monotonic()
            if row is not None and row[0] > there:
                seen += [now] * (row[0] - there)
                there, under_way_since = row[0], now
            elif now - under_way_since > _LATE_S:
                assert now - under_way_since < _TIMEOUT_S, "the rows do not come"
                time.sleep(_LATE_POLL_S)
    return seen

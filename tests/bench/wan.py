"""`wan`: a drain with 50 ms of round trip to the other side, against the same drain without.

The daemon runs beside the source, so its line to the target is long; a subscription's worker runs
inside the target, so its line to the source is. At 0 ms there is no proxy: it would wake up for
each of a walsender's small packets, which a long line gathers. What it costs counts against the
distance.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace

from tests.bench import contest, workloads
from tests.bench.arena import Backlog, Lane
from tests.bench.bench import Bench
from tests.bench.contestants import Cdc, Contestant, Native, Run
from tests.bench.delay import delayed
from tests.bench.figures import Drain

ROUND_TRIPS_MS = (0, 50)
WORKLOAD = "insert"

ROWS = 2_000_000
"""So many that the daemon's start does not matter: a second of round trips before the first row."""


@dataclass(frozen=True, slots=True)
class _Far:
    """A contestant whose other side is far away."""

    contestant: Contestant
    round_trip_ms: int
    copies: bool = True

    @property
    def name(self) -> str:
        """As in reports; a part of the slot's name too."""
        return f"{self.contestant.name}_{self.round_trip_ms}ms"

    def prepare(self, lane: Lane) -> None:
        """Not measured, so not delayed; a subscription learns its line when it starts."""
        self.contestant.prepare(lane)

    def run(self, lane: Lane, backlog: Backlog | None) -> AbstractContextManager[Run]:
        """Run it at the end of a long line."""
        return _far(self, lane, backlog)


@contextmanager
def _far(far: _Far, lane: Lane, backlog: Backlog | None) -> Iterator[Run]:
    round_trip_s = far.round_trip_ms / 1000
    with ExitStack() as stack:
        if round_trip_s > 0:
            target = stack.enter_context(delayed(lane.target_dsn, round_trip_s))
            source = stack.enter_context(delayed(lane.subscribed_dsn, round_trip_s))
            lane = replace(lane, target_dsn=target, subscribed_dsn=source)
        yield stack.enter_context(far.contestant.run(lane, backlog))


def run(bench: Bench) -> Iterator[Drain]:
    """Drain one backlog at each distance."""
    contestants = [_Far(one, ms) for one in (Native(), Cdc()) for ms in ROUND_TRIPS_MS]
    plan = workloads.insert(max(20, bench.scaled(ROWS) // 10 * 10))
    distances = {far.name: far for far in contestants}
    for drained in contest.run(bench, f"wan {WORKLOAD}", plan, contestants):
        far = distances[drained.contestant]
        workload = at(far.round_trip_ms)
        yield replace(drained, workload=workload, contestant=far.contestant.name)


def at(round_trip_ms: int) -> str:
    """Name the workload at a distance."""
    return f"{WORKLOAD}, {round_trip_ms} ms"

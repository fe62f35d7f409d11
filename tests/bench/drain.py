"""One drain, measured: the same rule for every contestant.

The clock starts when the slot becomes active on the source and stops when the mark behind the
backlog is visible on the target (for the ceiling: when it has been received). Looks are cheap, a
row by its key, and rare enough to cost a contestant less than a hundredth of a core. CPU time is
counted from the same moment: what a process takes to start is in `process_seconds` alone.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.bench.arena import WATCHER, Backlog, Lane, Watch
from tests.bench.contestants import Contestant, Run
from tests.bench.figures import Spent
from tests.bench.usage import Processes

_BEGIN_POLL_S = 0.001
_POLL_S = 0.01
_SAMPLE_S = 0.1

TIMEOUT_S = 3600.0

PARTS = {
    "contestant": "the contestant's own process",
    "walsender": "what reads its slot",
    "source": "its other sessions on the source",
    "target": "sessions and workers of its target",
}

_SESSIONS = """
select pid, backend_type = 'walsender' from pg_stat_activity
 where datname = current_database() and application_name <> %s
"""


@dataclass(slots=True)
class Drained:
    """How one contestant did."""

    seconds: float
    process_seconds: float
    spent: list[Spent]


def drain(
    contestant: Contestant, lane: Lane, backlog: Backlog, show: Callable[[float], None]
) -> Drained:
    """Let a prepared contestant drain its slot; `show` is told the seconds so far."""
    processes = Processes()
    with lane.watched() as watch:
        started = time.monotonic()
        with contestant.run(lane, backlog) as run:
            begun = _begin(run, watch)
            _sample(run, watch, processes)
            processes.begin()
            ended = _follow(run, watch, begun, processes, show)
            run.end()
            stopped = time.monotonic()
    spent = [Spent(part, u.cpu_s, u.peak_rss_bytes) for part, u in processes.totals().items()]
    return Drained(ended - begun, stopped - started, spent)


def _begin(run: Run, watch: Watch) -> float:
    """Wait until the slot is active."""
    deadline = time.monotonic() + TIMEOUT_S
    while watch.walsender() is None and not run.finished(watch):
        assert time.monotonic() < deadline, "the slot does not become active"
        time.sleep(_BEGIN_POLL_S)
    return time.monotonic()


def _follow(
    run: Run,
    watch: Watch,
    begun: float,
    processes: Processes,
    show: Callable[[float], None],
) -> float:
    """Wait until all is there; give when that was."""
    sampled = 0.0
    while not run.finished(watch):
        now = time.monotonic()
        assert now - begun < TIMEOUT_S, "the backlog is not drained"
        if now - sampled > _SAMPLE_S:
            _sample(run, watch, processes)
            show(now - begun)
            sampled = now
        time.sleep(_POLL_S)
    ended = time.monotonic()
    _sample(run, watch, processes)
    return ended


def _sample(run: Run, watch: Watch, processes: Processes) -> None:
    """Look at every process that has a part in it."""
    if run.pid is not None:
        processes.sample("contestant", [run.pid])
    sessions = watch.source.execute(_SESSIONS, (WATCHER,)).fetchall()
    processes.sample("walsender", [pid for pid, sends in sessions if sends])
    processes.sample("source", [pid for pid, sends in sessions if not sends])
    sessions = watch.target.execute(_SESSIONS, (WATCHER,)).fetchall()
    processes.sample("target", [pid for pid, _ in sessions])

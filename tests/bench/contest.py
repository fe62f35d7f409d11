"""A workload drained by each contestant in turn, round after round, and compared after each."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from cdc.demo.display import Display
from tests.bench import workloads
from tests.bench.arena import Arena, Backlog, prepared
from tests.bench.bench import Bench
from tests.bench.contestants import CONTESTANTS, Contestant
from tests.bench.drain import drain
from tests.bench.equality import Contents, contents
from tests.bench.figures import Drain

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Contest:
    """A backlog that is there, and who drains it how often."""

    workload: str
    changes: int
    arena: Arena
    backlog: Backlog
    source: Contents
    display: Display

    def turn(self, contestant: Contestant, number: int) -> Drain:
        """Let one contestant drain it, and compare the rows."""
        doing = f"{self.workload}, round {number}, {contestant.name}"
        with self.arena.lane(slot_name(self.arena.name, contestant, number)) as lane:
            contestant.prepare(lane)
            drained = drain(
                contestant,
                lane,
                self.backlog,
                lambda seconds: self.display.show(doing, f"{seconds:.1f} s"),
            )
            self.display.show(doing, "comparing")
            if contestant.copies:
                self.source.assert_equal(lane.target_admin_dsn)
        turn = Drain(
            workload=self.workload,
            contestant=contestant.name,
            round=number,
            changes=self.changes,
            wal_bytes=self.backlog.wal_bytes,
            seconds=drained.seconds,
            process_seconds=drained.process_seconds,
            spent=drained.spent,
        )
        self.display.say(f"{doing}: {turn.seconds:.2f} s, {turn.rate:,.0f} changes/s")
        return turn


def arena_name(workload: str) -> str:
    """Give a name for databases and slots."""
    return re.sub("[^a-z0-9]+", "_", workload)


def slot_name(arena: str, contestant: Contestant, number: int) -> str:
    """Give the name of a lane."""
    return f"{arena}_{contestant.name}_{number}"


def run(
    bench: Bench,
    workload: str,
    plan: workloads.Backlog,
    contestants: Sequence[Contestant] = CONTESTANTS,
) -> Iterator[Drain]:
    """Build a backlog once, and give each drain of it."""
    display = bench.display
    slots = [(c, n) for n in range(1, bench.rounds + 1) for c in in_turn(contestants, n)]
    display.show("loading", f"the rows before {workload}")
    with prepared(bench.sides, f"bench_{arena_name(workload)}", plan.tables, plan.rows) as arena:
        arena.publish([slot_name(arena.name, c, n) for c, n in slots])
        display.show("building", f"{workload}: {plan.changes:,} changes")
        backlog = arena.build(plan.statements)
        size = f"{backlog.wal_bytes >> 20:,} MB of WAL"
        display.say(f"{workload}: {plan.changes:,} changes, {size}")
        source = contents(arena.source_admin_dsn)
        contest = Contest(workload, plan.changes, arena, backlog, source, display)
        for contestant, number in slots:
            yield contest.turn(contestant, number)


def in_turn(contestants: Sequence[T], number: int) -> Sequence[T]:
    """Give the contestants of a round: each round begins with another one."""
    first = (number - 1) % len(contestants)
    return [*contestants[first:], *contestants[:first]]

"""`snapshot`: the initial copy of one table against psql, of eight against a subscription's."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cdc.demo.display import Display
from tests.bench import bookings
from tests.bench.arena import Arena, prepared
from tests.bench.bench import Bench
from tests.bench.contest import arena_name, in_turn
from tests.bench.copiers import Copier, Init, Initial, Psql
from tests.bench.equality import Contents, contents
from tests.bench.figures import Copy

ROWS = 5_000_000


@dataclass(frozen=True, slots=True)
class Case:
    """Rows in so many tables, and who copies them."""

    name: str
    rows: int
    tables: int
    copiers: Sequence[Copier]


def run(bench: Bench) -> Iterator[Copy]:
    """Copy in each case, with each copier in turn."""
    rows = bench.scaled(ROWS)
    for case in (
        Case("one table", rows, 1, (Psql(), Initial(), Init())),
        Case("eight tables", rows, 8, (Initial(), Psql(), Init())),
    ):
        yield from copies(bench, case)


def copies(bench: Bench, case: Case) -> Iterator[Copy]:
    """Make the source's rows once, and copy them in each round by each copier."""
    bench.display.show("loading", f"{case.rows:,} rows, {case.name}")
    name = f"bench_{arena_name(case.name)}"
    tables = [*bookings.tables(case.tables), bookings.others_dropped()]
    filled = bookings.rows(case.rows, case.tables)
    with prepared(bench.sides, name, tables, filled, copied=False) as arena:
        arena.publish()
        copying = _Copying(case, arena, contents(arena.source_admin_dsn), bench.display)
        for number in range(1, bench.rounds + 1):
            for copier in in_turn(case.copiers, number):
                yield copying.turn(copier, number)


@dataclass(frozen=True, slots=True)
class _Copying:
    """Rows that are there, and who looks on."""

    case: Case
    arena: Arena
    source: Contents
    display: Display

    def turn(self, copier: Copier, number: int) -> Copy:
        """Copy once, and compare the rows."""
        case, arena = self.case, self.arena
        doing = f"copy of {case.name}, round {number}, {copier.name}"
        self.display.show(doing, "copying")
        with arena.lane(f"{arena.name}_{copier.name}_{number}") as lane:
            since = time.monotonic()
            copier.copy(lane, bookings.names(case.tables))
            seconds = time.monotonic() - since
            copier.finish(lane)
            self.source.assert_equal(lane.target_admin_dsn)
        arena.drop_slots()
        rows = self.source.rows
        self.display.say(f"{doing}: {seconds:.2f} s, {rows / seconds:,.0f} rows/s")
        return Copy(case.name, copier.name, number, case.tables, rows, seconds)

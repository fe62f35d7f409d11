"""The tables of docs/sizing.md: computed from the kept run of the bench and the daemon's own terms.

    python -m tests.sizing    # puts them into the page, as `make docs` does

A unit test holds them and the page together.
"""

import statistics
from collections.abc import Iterator, Sequence

from cdc.awake import Wakefulness
from cdc.budget import WalBudget
from cdc.lsn import Lsn
from tests.bench.figures import Document, Drain
from tests.bench.report import peak
from tests.servers import CHECKOUT

PAGE = CHECKOUT / "docs" / "sizing.md"

BLANK = "\n\n"

GB = 1 << 30
HOUR_S = 3600
DAY_S = 24 * HOUR_S
MONTH_H = 730

# What a burst takes, connecting included, where a quarter of an hour brought some thousand changes.
BURST_S = 10

# Neon's smallest compute, and what an hour of a whole one costs on its Launch plan (November 2026).
COMPUTE_UNITS = 0.25
DOLLARS_PER_CU_HOUR = 0.106

FLUSH_INTERVALS = {
    "0, and changes come all the time": 0,
    "300": 300,
    "600": 600,
    "900": 900,
    "1800": 1800,
    "3600": HOUR_S,
    "21600": 6 * HOUR_S,
}

KEPT_GB = (4, 16, 64)
WAL_RATES_GB_PER_HOUR = (0.5, 1, 4, 16)


def machine(document: Document) -> list[str]:
    """Give what a million changes took, by kind of backlog: medians of the rounds."""
    lines = [
        "| backlog | seconds of CPU, daemon | target | WAL of the source | memory of the daemon |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    ours = [one for one in document.drains if one.contestant == "cdc"]
    for workload in dict.fromkeys(one.workload for one in ours):
        runs = [one for one in ours if one.workload == workload]
        daemon, target = (_cpu_per_million(runs, part) for part in ("contestant", "target"))
        wal = statistics.median(one.wal_bytes / one.changes for one in runs)  # MB a million
        lines.append(
            f"| `{workload}` | {daemon:.1f} | {target:.1f} | {wal:,.0f} MB"
            f" | {peak(runs, 'contestant') >> 20} MB |"
        )
    return lines


def _cpu_per_million(runs: Sequence[Drain], part: str) -> float:
    return statistics.median(
        sum(spent.cpu_s for spent in one.spent if spent.part == part) / one.changes * 1e6
        for one in runs
    )


def retention() -> list[str]:
    """Give the hours until a slot that nobody reads is lost."""
    rates = [f"{rate:g} GB/h" for rate in WAL_RATES_GB_PER_HOUR]
    lines = [
        f"| max_slot_wal_keep_size | {' | '.join(rates)} |",
        f"| --- |{' ---: |' * len(rates)}",
    ]
    for kept in KEPT_GB:
        hours = (f"{_hours_left(kept, rate):.1f} h" for rate in WAL_RATES_GB_PER_HOUR)
        lines.append(f"| {kept} GB | {' | '.join(hours)} |")
    return lines


def _hours_left(kept_gb: float, rate_gb_per_hour: float) -> float:
    """Return what the daemon would say, who looks at a slot that holds back nothing yet."""
    budget = WalBudget()
    for hour in (0, 1):
        budget.look(hour * HOUR_S, Lsn(int(hour * rate_gb_per_hour * GB)), 0, int(kept_gb * GB))
    assert budget.seconds_left is not None
    return budget.seconds_left / HOUR_S


def awake() -> list[str]:
    """Give what a target costs that is asked in bursts, each time for changes that came."""
    lines = [
        "| CDC_APPLY_FLUSH_INTERVAL | awake a day | CU-hours a month | a month |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, interval_s in FLUSH_INTERVALS.items():
        hours = awake_hours(interval_s)
        cu_hours = hours / 24 * MONTH_H * COMPUTE_UNITS
        dollars = cu_hours * DOLLARS_PER_CU_HOUR
        lines.append(f"| {name} | {hours:.1f} h | {cu_hours:.0f} | ${dollars:.2f} |")
    return lines


def awake_hours(interval_s: int) -> float:
    """Return for how long a target is awake on a day, by what the daemon counts of it."""
    days = 10
    awake = Wakefulness()
    for begin in _bursts(interval_s, days * DAY_S):
        awake.begin(begin)
        awake.end(begin + BURST_S)
    return awake.seconds(days * DAY_S) / days / HOUR_S


def _bursts(interval_s: int, until_s: int) -> Iterator[int]:
    """Yield when bursts begin: the interval is from the end of one to the next."""
    yield from range(0, until_s, interval_s + BURST_S)


def tables() -> list[str]:
    """Give all tables of the page."""
    kept = Document.read(sorted((CHECKOUT / "docs" / "bench").glob("*.json")))
    return ["\n".join(table) + "\n" for table in (machine(kept), retention(), awake())]


def renewed(page: str) -> str:
    """Give the page with its tables as they are now; each is known by its first line."""
    for table in tables():
        head, rest = page.split(table.partition("\n")[0], 1)
        page = f"{head}{table}\n{rest.partition(BLANK)[2]}"
    return page


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text()))

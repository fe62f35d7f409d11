"""The table that people read: medians, spread, and how the contestants compare."""

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.bench import wan
from tests.bench.drain import PARTS
from tests.bench.figures import Copy, Document, Drain, Latency, Spent
from tests.bench.table import Row, cell, markdown, table


def main(arguments: Sequence[str]) -> None:
    """Print the tables of documents."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench table", description=__doc__)
    parser.add_argument("file", type=Path, nargs="+")
    parser.add_argument("--markdown", action="store_true", help="as the README has them")
    options = parser.parse_args(arguments)
    layout = markdown if options.markdown else table
    sys.stdout.write(report(Document.read(options.file), layout))


def report(document: Document, layout: Callable[[Sequence[Row]], str] = table) -> str:
    """Lay out all that was measured."""
    machine = document.machine
    head = (
        f"{machine.cpus} cores, {machine.memory_bytes >> 30} GB, Python {machine.python},"
        f" PostgreSQL {machine.source} to {machine.target}, {machine.revision}\n"
    )
    parts = [
        [drain_row(runs, document.drains) for runs in grouped(document.drains)],
        [cost_row(runs) for runs in grouped(document.drains)],
        [wan_row(runs, document.wan) for runs in grouped(document.wan)],
        [growth_row(runs, document.growth) for runs in grouped(document.growth)],
        [latency_row(runs) for runs in by_rate(document.latency)],
        [copy_row(runs, document.copies) for runs in by_case(document.copies)],
        *([{n: cell(n, v) for n, v in one.items()} for one in o] for o in document.others.values()),
    ]
    return "\n".join([head, *(layout(rows) for rows in parts if rows)])


def grouped(drains: Sequence[Drain]) -> list[list[Drain]]:
    """Give the rounds of each workload and contestant, in order of appearance."""
    groups: dict[tuple[str, str], list[Drain]] = {}
    for one in drains:
        groups.setdefault((one.workload, one.contestant), []).append(one)
    return list(groups.values())


def by_rate(latencies: Sequence[Latency]) -> list[list[Latency]]:
    """Give the rounds of each rate and contestant."""
    groups: dict[tuple[int, str], list[Latency]] = {}
    for one in latencies:
        groups.setdefault((one.rate, one.contestant), []).append(one)
    return list(groups.values())


def by_case(copies: Sequence[Copy]) -> list[list[Copy]]:
    """Give the rounds of each case and contestant."""
    groups: dict[tuple[str, str], list[Copy]] = {}
    for one in copies:
        groups.setdefault((one.case, one.contestant), []).append(one)
    return list(groups.values())


def median_rate(drains: Sequence[Drain], workload: str, contestant: str) -> float | None:
    """Give the changes per second of a contestant, if it took part."""
    rates = [o.rate for o in drains if (o.workload, o.contestant) == (workload, contestant)]
    return statistics.median(rates) if rates else None


def drain_row(runs: Sequence[Drain], drains: Sequence[Drain]) -> Row:
    """Sum up the rounds of one contestant."""
    one, rates = runs[0], sorted(run.rate for run in runs)
    rate = statistics.median(rates)
    row = {
        "workload": one.workload,
        "drained by": one.contestant,
        "changes": f"{one.changes:,}",
        "seconds": f"{statistics.median(run.seconds for run in runs):.2f}",
        "process": f"{statistics.median(run.process_seconds for run in runs):.2f}",
        "changes/s": f"{rate:,.0f}",
        "spread": f"{(rates[-1] - rates[0]) / rate:.0%}",
    }
    for other in ("native", "ceiling"):
        its = median_rate(drains, one.workload, other)
        row[f"of {other}"] = f"{rate / its:.2f}" if its else ""
    return row


def wan_row(runs: Sequence[Drain], drains: Sequence[Drain]) -> Row:
    """Sum up the rounds of one contestant at one distance."""
    row = drain_row(runs, drains)
    del row["of ceiling"]
    here = median_rate(drains, wan.at(0), runs[0].contestant)
    rate = statistics.median(run.rate for run in runs)
    return row | {"of 0 ms": f"{rate / here:.2f}" if here else ""}


def growth_row(runs: Sequence[Drain], drains: Sequence[Drain]) -> Row:
    """Sum up the rounds of one contestant at one size: the cost of a row."""
    row = drain_row(runs, drains)
    del row["of ceiling"]
    seconds = statistics.median(run.seconds for run in runs)
    return row | {"us/row": f"{seconds / runs[0].changes * 1e6:.2f}"}


def cost_row(runs: Sequence[Drain]) -> Row:
    """Sum up what one contestant needed: CPU time per change, and memory."""
    one = runs[0]
    row = {"workload": one.workload, "CPU and memory of": one.contestant}
    for part in PARTS:
        row[f"{part} us/change"] = f"{cpu(runs, part) / one.changes * 1e6:.1f}"
    for part in ("contestant", "walsender", "target"):
        row[f"{part} peak MB"] = f"{peak(runs, part) >> 20:,}"
    return row


def cpu(runs: Sequence[Drain], part: str) -> float:
    """Give the median of the CPU seconds of a part."""
    return statistics.median(spent(run, part).cpu_s for run in runs)


def peak(runs: Sequence[Drain], part: str) -> int:
    """Give the highest peak of a part's memory."""
    return max(spent(run, part).peak_rss_bytes for run in runs)


def spent(run: Drain, part: str) -> Spent:
    """Give what a part needed: nothing, where it has no process."""
    found = [one for one in run.spent if one.part == part]
    return found[0] if found else Spent(part, 0.0, 0)


def latency_row(runs: Sequence[Latency]) -> Row:
    """Sum up the rounds of one contestant at one rate."""
    one = runs[0]
    return {
        "latency": one.contestant,
        "asked/s": f"{one.rate:,}",
        "reached/s": f"{statistics.median(run.committed / run.seconds for run in runs):,.0f}",
        "p50 ms": f"{statistics.median(run.p50_ms for run in runs):.2f}",
        "p95 ms": f"{statistics.median(run.p95_ms for run in runs):.2f}",
        "p99 ms": f"{statistics.median(run.p99_ms for run in runs):.2f}",
        "max ms": f"{max(run.max_ms for run in runs):.1f}",
    }


def copy_row(runs: Sequence[Copy], copies: Sequence[Copy]) -> Row:
    """Sum up the rounds of one contestant."""
    one = runs[0]
    seconds = statistics.median(run.seconds for run in runs)
    times = [run.seconds for run in runs]
    row = {
        "copy": one.case,
        "contestant": one.contestant,
        "tables": f"{one.tables:,}",
        "rows": f"{one.rows:,}",
        "seconds": f"{seconds:.2f}",
        "spread": f"{(max(times) - min(times)) / seconds:.0%}",
        "rows/s": f"{one.rows / seconds:,.0f}",
        "us/row": f"{seconds / one.rows * 1e6:.2f}",
    }
    for other in ("psql", "native"):
        its = [o.seconds for o in copies if (o.case, o.contestant) == (one.case, other)]
        row[f"of {other}"] = f"{statistics.median(its) / seconds:.2f}" if its else ""
    return row

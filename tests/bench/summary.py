"""`summary FILE.json ...`: what the README says of a run, in Markdown: the daemon and the other."""

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench import growth, wan
from tests.bench.figures import Document
from tests.bench.report import median_rate, peak
from tests.bench.table import Row, markdown

RATE = 400
"""Transactions per second of the latency that is told."""


def main(arguments: Sequence[str]) -> None:
    """Print the summary of documents."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench summary", description=__doc__)
    parser.add_argument("file", type=Path, nargs="+")
    options = parser.parse_args(arguments)
    sys.stdout.write(summary(Document.read(options.file)))


def summary(document: Document) -> str:
    """Sum up what was measured."""
    rows = [
        *_drains(document),
        *_latency(document),
        *_wan(document),
        *_copies(document),
        *_growth(document),
    ]
    return markdown(rows)


def _drains(document: Document) -> Iterator[Row]:
    for workload in dict.fromkeys(one.workload for one in document.drains):
        ours = median_rate(document.drains, workload, "cdc")
        theirs = median_rate(document.drains, workload, "native")
        if ours and theirs:
            yield _row(f"`{workload}`, changes/s", f"{ours:,.0f}", f"{theirs:,.0f}", ours / theirs)
    runs = [o for o in document.drains if (o.workload, o.contestant) == ("big", "cdc")]
    if runs:
        yield _row("`big`, memory of the daemon", f"{peak(runs, 'contestant') >> 20} MB")


def _latency(document: Document) -> Iterator[Row]:
    found = {
        one: [o for o in document.latency if (o.contestant, o.rate) == (one, RATE)]
        for one in ("cdc", "native")
    }
    if not all(found.values()):
        return
    for what, of in (("median", lambda o: o.p50_ms), ("p99", lambda o: o.p99_ms)):
        ours, theirs = (statistics.median(map(of, runs)) for runs in found.values())
        name = f"latency at {RATE} transactions/s, {what}"
        yield _row(name, f"{ours:.2f} ms", f"{theirs:.2f} ms", ours / theirs)


def _wan(document: Document) -> Iterator[Row]:
    kept: list[str] = []
    for contestant in ("cdc", "native"):
        near, far = (median_rate(document.wan, wan.at(ms), contestant) for ms in wan.ROUND_TRIPS_MS)
        if near and far:
            kept.append(f"{far / near:.0%}")
    if kept:
        name = f"what {wan.ROUND_TRIPS_MS[1]} ms of round trip leave of `insert`"
        yield _row(name, kept[0], "".join(kept[1:]))


def _copies(document: Document) -> Iterator[Row]:
    for case, other in (("one table", "psql"), ("eight tables", "native")):
        seconds = {
            one: [o.seconds for o in document.copies if (o.case, o.contestant) == (case, one)]
            for one in ("cdc", other)
        }
        if all(seconds.values()):
            ours, theirs = map(statistics.median, seconds.values())
            than = " (psql: `COPY \\| COPY`)" if other == "psql" else ""
            name = f"initial copy of {case}{than}"
            yield _row(name, f"{ours:.1f} s", f"{theirs:.1f} s", theirs / ours)


def _growth(document: Document) -> Iterator[Row]:
    """Say what a row costs where there are a hundred times as many."""
    few, many = (growth.name(*size) for size in (growth.SIZES[0], growth.SIZES[2]))
    times = []
    for contestant in ("cdc", "native"):
        before, after = (median_rate(document.growth, size, contestant) for size in (few, many))
        if before and after:
            times.append(f"{before / after:.2f}")
    if times:
        name = f"time a row takes among {growth.SIZES[2][0]:,}, against {growth.SIZES[0][0]:,}"
        yield _row(name, times[0], "".join(times[1:]))


def _row(what: str, ours: str, theirs: str = "", ratio: float | None = None) -> Row:
    times = "" if ratio is None else f"{ratio:.2f}"
    return {"median of the rounds": what, "cdc": ours, "subscription": theirs, "ratio": times}

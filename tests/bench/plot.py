"""`plot FILE.json ... DIR`: draws what was measured as bench.png and bench.svg, a panel each kind.

The same document gives the same files, byte for byte where the version of matplotlib is the same.
"""

import argparse
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.bench.figures import Copy, Document, Drain, Latency
from tests.bench.report import by_case, by_rate, grouped, median_rate

_COLORS = {"ceiling": "#b8bec6", "native": "#6c8ebf", "psql": "#82a67d", "cdc": "#d0632f"}
_BAR = 0.8
"""Of the room that there is for a group of bars."""

_HIGHEST = 4.5
"""Times native; the ceiling of large values is far above, and would flatten all others."""

_PANEL_INCHES = (10, 3.4)
_DPI = 150

Draw = Callable[[Axes], None]


def main(arguments: Sequence[str]) -> None:
    """Draw one document."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench plot", description=__doc__)
    parser.add_argument("file", type=Path, nargs="+")
    parser.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    save(Document.read(options.file), options.folder)


def save(document: Document, folder: Path) -> None:
    """Write both files."""
    # Letters stay letters, and the names of parts do not depend on chance.
    mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "cdc", "font.size": 9}
    figure = draw(document)
    figure.savefig(folder / "bench.png", dpi=_DPI, metadata={"Software": None})
    figure.savefig(folder / "bench.svg", metadata={"Date": None})


def draw(document: Document) -> Figure:
    """Draw a panel for each kind of figures that there are."""
    panels: list[Draw] = []
    if document.drains:
        panels.append(lambda axes: _throughput(axes, document.drains, "backlogs drained"))
    if document.wan:
        panels.append(lambda axes: _throughput(axes, document.wan, "round trip to the other side"))
    if document.latency:
        panels.append(lambda axes: _latency(axes, document.latency))
    if document.copies:
        panels.append(lambda axes: _copies(axes, document.copies))
    if document.growth:
        panels.append(lambda axes: _growth(axes, document.growth))
    assert panels, "nothing was measured that could be drawn"
    width, height = _PANEL_INCHES
    figure = Figure(figsize=(width, height * len(panels)), layout="constrained")
    machine = document.machine
    figure.suptitle(
        f"PostgreSQL {machine.source} to {machine.target}, {machine.cpus} cores, {machine.revision}"
    )
    for number, panel in enumerate(panels, 1):
        axes = figure.add_subplot(len(panels), 1, number)
        panel(axes)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    return figure


def _bars(
    axes: Axes,
    groups: dict[tuple[str, str], tuple[list[float], str]],
    highest: float | None = None,
) -> None:
    """Draw the median of each group and contestant, its spread as a line, its label above."""
    names = list(dict.fromkeys(group for group, _ in groups))
    contestants = list(dict.fromkeys(contestant for _, contestant in groups))
    width = _BAR / len(contestants)
    for place, contestant in enumerate(contestants):
        for x, name in enumerate(names):
            if (name, contestant) not in groups:
                continue
            values, label = groups[name, contestant]
            middle = statistics.median(values)
            at = x + (place - (len(contestants) - 1) / 2) * width
            # In the legend once: matplotlib leaves out what begins with an underscore.
            legend = contestant if x == 0 else f"_{contestant}"
            axes.bar(at, middle, width, color=_COLORS[contestant], label=legend)
            axes.vlines(at, min(values), max(values), color="#333333", linewidth=0.8)
            top = max(values) if highest is None else min(highest * 0.97, max(values))
            axes.annotate(label, (at, top), (0, 2), textcoords="offset points", ha="center", size=7)
    axes.set_xticks(range(len(names)), names)


def _throughput(axes: Axes, drains: Sequence[Drain], title: str) -> None:
    """Draw rates as multiples of the native one, which lets all workloads share an axis."""
    groups: dict[tuple[str, str], tuple[list[float], str]] = {}
    for runs in grouped(drains):
        one, rates = runs[0], [run.rate for run in runs]
        native = median_rate(drains, one.workload, "native")
        assert native is not None, f"no native drain of {one.workload}"
        label = _short(statistics.median(rates))
        groups[one.workload, one.contestant] = ([rate / native for rate in rates], label)
    _bars(axes, groups, _HIGHEST)
    axes.set_ylim(0, min(_HIGHEST, axes.get_ylim()[1]))
    axes.axhline(1, color="#333333", linewidth=0.6, linestyle="--")
    axes.set_title(f"{title}: changes/s above the bars, height relative to native", fontsize=9)
    axes.set_ylabel("times native")


def _latency(axes: Axes, latencies: Sequence[Latency]) -> None:
    """Draw the median, and up to which time 95 and 99 of 100 rows are there."""
    for contestant in dict.fromkeys(one.contestant for one in latencies):
        groups = [runs for runs in by_rate(latencies) if runs[0].contestant == contestant]
        rates = [runs[0].rate for runs in groups]
        for percentile, style in (("p50", "-"), ("p95", "--"), ("p99", ":")):
            line = [
                statistics.median(getattr(run, f"{percentile}_ms") for run in runs)
                for runs in groups
            ]
            label = f"{contestant} {percentile}"
            axes.plot(rates, line, style, marker="o", color=_COLORS[contestant], label=label)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    rates = sorted({one.rate for one in latencies})
    axes.set_xticks(rates, [f"{rate:,}" for rate in rates])
    axes.minorticks_off()
    axes.set_xlabel("transactions/s")
    axes.set_ylabel("ms")
    axes.set_title("from a commit on the source until it is visible on the target", fontsize=9)


def _copies(axes: Axes, copies: Sequence[Copy]) -> None:
    """Draw what a row of an initial copy costs."""
    runs = [(r[0].case, r[0].contestant, [o.seconds / o.rows for o in r]) for r in by_case(copies)]
    _costs(axes, runs, "initial copies, their start included")


def _growth(axes: Axes, drains: Sequence[Drain]) -> None:
    """Draw what a row of a backlog costs."""
    runs = [
        (r[0].workload, r[0].contestant, [o.seconds / o.changes for o in r])
        for r in grouped(drains)
    ]
    _costs(axes, runs, "backlogs of growing size, drained")


def _costs(axes: Axes, runs: Sequence[tuple[str, str, list[float]]], title: str) -> None:
    """Draw for a case and a contestant what each of its runs took for a row, in seconds."""
    groups: dict[tuple[str, str], tuple[list[float], str]] = {}
    for case, contestant, seconds in runs:
        costs = [one * 1e6 for one in seconds]
        label = f"{statistics.median(costs):.1f}"
        groups[case.replace(", ", "\n"), contestant] = (costs, label)
    _bars(axes, groups)
    axes.set_ylabel("µs/row")
    axes.set_title(title, fontsize=9)


def _short(rate: float) -> str:
    """Write a rate in little room."""
    return f"{rate / 1000:.0f}k" if rate >= 10_000 else f"{rate:,.0f}"

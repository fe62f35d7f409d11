"""`python -m tests.bench WHAT ...`: measure, then print tables.

`table FILE.json ...` prints those of former runs, `summary FILE.json ...` what the README says of
them, and `plot FILE.json ... DIR` draws them.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from cdc.demo.display import Display
from tests.bench import (
    asked,
    contest,
    growth,
    large,
    latency,
    report,
    snapshot,
    summary,
    value,
    wan,
)
from tests.bench.arena import started
from tests.bench.bench import Bench
from tests.bench.figures import Document, figures
from tests.bench.machine import this_machine
from tests.bench.workloads import WORKLOADS, backlog
from tests.servers import DEFAULT_MAJOR, Role

T = TypeVar("T")

_COMPARED = (*WORKLOADS, "latency", "wan", "snapshot", "growth")
_ALONE = ("large", "value", "asked")
"""What compares the daemon with nobody, and starts servers of its own."""


def main() -> None:
    """Measure, print or draw."""
    if sys.argv[1:2] == ["plot"]:
        # Imported here, because importing matplotlib takes as long as a small drain.
        from tests.bench import plot  # noqa: PLC0415

        plot.main(sys.argv[2:])
    elif sys.argv[1:2] == ["table"]:
        report.main(sys.argv[2:])
    elif sys.argv[1:2] == ["summary"]:
        summary.main(sys.argv[2:])
    else:
        _measure()


def _measure() -> None:
    """Measure what the command line names, and print it."""
    options = _options()
    whats = list(_COMPARED) if "all" in options.what else options.what
    majors: dict[Role, int] = {"source": options.source, "target": options.target}
    # But for where it is written to: that is nobody's business.
    given = {n: str(option) for n, option in vars(options).items() if n != "json"}
    document = Document(this_machine(majors), given)
    with Display() as display:
        compared = [what for what in whats if what in _COMPARED]
        if compared:
            with started(majors) as sides:
                bench = Bench(sides, display, options.rounds, options.scale)
                for what in compared:
                    _compare(what, bench, document)
                    _keep(document, options.json)
        if "large" in whats:
            rows = round(large.ROWS * options.scale)
            document.others["large"] = [figures(large.run(rows, display))]
        if "value" in whats:
            megabytes = max(1, round(value.TEXT_MB * options.scale))
            document.others["value"] = [figures(one) for one in value.run(megabytes, display)]
        if "asked" in whats:
            rows = round(asked.ROWS * options.scale)
            found = asked.run(rows, options.rounds, display)
            document.others["asked"] = [figures(one) for one in found]
    _keep(document, options.json)
    sys.stdout.write(report.report(document))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    names = ("all", *_COMPARED, *_ALONE)
    parser.add_argument("what", nargs="+", choices=names, help="what to measure")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contestant")
    parser.add_argument("--scale", type=float, default=1.0, help="0.05 for a quick look")
    parser.add_argument("--source", type=int, default=DEFAULT_MAJOR, help="the source's version")
    parser.add_argument("--target", type=int, default=DEFAULT_MAJOR, help="the target's version")
    parser.add_argument("--json", type=Path, help="write what was measured into this file")
    return parser.parse_args()


def _compare(what: str, bench: Bench, document: Document) -> None:
    """Measure one thing, and add it to the document as it comes."""
    match what:
        case "latency":
            _add(document.latency, latency.run(bench))
        case "wan":
            _add(document.wan, wan.run(bench))
        case "snapshot":
            _add(document.copies, snapshot.run(bench))
        case "growth":
            _add(document.growth, growth.drains(bench))
            _add(document.copies, growth.copies(bench))
        case _:
            _add(document.drains, contest.run(bench, what, backlog(what, bench.scale)))


def _add(figures: list[T], measured: Iterable[T]) -> None:
    """Keep each as soon as it is measured: `extend` would lose all when one fails."""
    for one in measured:
        figures.append(one)  # noqa: PERF402


def _keep(document: Document, file: Path | None) -> None:
    """Write what there is by now: hours may be in it when the next thing fails."""
    if file is not None:
        file.write_bytes(document.encode())


if __name__ == "__main__":
    main()

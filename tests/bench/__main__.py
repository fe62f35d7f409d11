"""`python -m tests.bench WORKLOAD`: measure, then a table, or one JSON object with `--json`."""

import argparse
import json
import sys
from dataclasses import asdict

from cdc.demo.display import Display
from tests.bench import big, value

ROWS = 5_000_000


def main() -> None:
    """Run the workload that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    workloads = parser.add_subparsers(dest="workload", required=True)
    of_big = workloads.add_parser("big", help="one large transaction, small ones behind it")
    of_big.add_argument("--rows", type=int, default=ROWS)
    of_value = workloads.add_parser("value", help="single large values")
    of_value.add_argument("--megabytes", type=int, default=value.TEXT_MB)
    for sub in (of_big, of_value):
        sub.add_argument("--json", action="store_true", default=argparse.SUPPRESS)
    options = parser.parse_args()
    with Display() as display:
        if options.workload == "big":
            figures = [asdict(big.run(options.rows, display))]
        else:
            figures = [asdict(one) for one in value.run(options.megabytes, display)]
    if options.json:
        report = json.dumps({"workload": options.workload, "figures": figures}) + "\n"
    else:
        report = table(figures)
    sys.stdout.write(report)


def table(figures: list[dict[str, object]]) -> str:
    """Lay figures out as a table, bytes as MB."""
    shown = [{name: cell(name, v) for name, v in one.items()} for one in figures]
    heads = {name: name.removesuffix("_bytes").replace("_", " ") for name in figures[0]}
    widths = {n: max(len(h), *(len(one[n]) for one in shown)) for n, h in heads.items()}
    lines = [heads, *shown]
    return "".join(
        "  ".join(line[n].rjust(width) for n, width in widths.items()) + "\n" for line in lines
    )


def cell(name: str, value: object) -> str:
    """Write a figure for people."""
    if isinstance(value, int) and name.endswith("bytes"):
        return f"{value / (1 << 20):,.0f} MB"
    if isinstance(value, float):
        return f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    main()

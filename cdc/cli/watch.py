"""How `cdc lag --watch` shows what it sees: drawn in place on a terminal, lines elsewhere.

A terminal gets a small table and the last two minutes as bars; a pipe gets a line a second, with
`--json` one JSON object each. What is wrong with the source goes to stderr there.
"""

import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from cdc.assure.lag import Lag
from cdc.assure.watching import Away
from cdc.cli.colours import BAD, GOOD, of_budget, of_lag
from cdc.cli.output import print_json_line, wal_budget
from cdc.sizes import readable_bytes, readable_seconds

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

_BARS = "▁▂▃▄▅▆▇█"

_SECONDS_A_BAR = 3

# With a name before and a number behind they fit into 80 columns.
_BARS_SHOWN = 48


class Display(ABC):
    """What a watch is shown by."""

    @abstractmethod
    def show(self, measured: Lag) -> None:
        """Show what was measured."""

    def tell(self, away: Away) -> None:
        """Say that the source cannot be asked."""
        typer.echo(
            f"cdc: the source is away, trying again in {away.delay_s:.1f} s: {away.problem}",
            err=True,
        )


class JsonLines(Display):
    """One JSON object a line."""

    def show(self, measured: Lag) -> None:
        """Print it."""
        print_json_line(measured)


class Lines(Display):
    """A line each, for people who keep it in a file."""

    def show(self, measured: Lag) -> None:
        """Print it."""
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        shown = ", ".join(f"{name} {value}" for name, value, _ in _facts(measured))
        sys.stdout.write(f"{at}  {shown}\n")
        sys.stdout.flush()


class Screen(Display):
    """A table that is drawn anew, with bars."""

    def __init__(self, live: "Live") -> None:
        self._live = live
        self._bars: deque[int] = deque(maxlen=_BARS_SHOWN)
        self._shown = 0
        self._last: Lag | None = None

    def show(self, measured: Lag) -> None:
        """Draw it."""
        size = measured.lag_bytes or 0
        if self._shown % _SECONDS_A_BAR:
            self._bars[-1] = max(self._bars[-1], size)
        else:
            self._bars.append(size)
        self._shown += 1
        self._last = measured
        self._live.update(self._table(measured, None), refresh=True)

    def tell(self, away: Away) -> None:
        """Draw what was last known, and that it is old."""
        problem = f"away, trying again in {away.delay_s:.1f} s: {away.problem}"
        self._live.update(self._table(self._last, problem), refresh=True)

    def _table(self, measured: Lag | None, problem: str | None) -> "Table":
        from rich.table import Table  # noqa: PLC0415  # of each start 60 ms, for a terminal alone
        from rich.text import Text  # noqa: PLC0415

        table = Table.grid(padding=(0, 2))
        for name, value, colour in _facts(measured) if measured is not None else ():
            table.add_row(name, Text(value, style=colour or ""))
        if self._bars:
            highest = f"  at most {readable_bytes(max(self._bars))}"
            table.add_row("", Text.assemble((bars(self._bars), "cyan"), (highest, "dim")))
        if problem is not None:
            table.add_row("source", Text(problem, style="red"))
        return table


@contextmanager
def display(*, json: bool) -> Iterator[Display]:
    """Give what fits stdout."""
    if json:
        yield JsonLines()
        return
    if not sys.stdout.isatty():
        yield Lines()
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415

    console = Console(highlight=False, markup=False)
    if console.is_dumb_terminal:
        yield Lines()
        return
    with Live(console=console, auto_refresh=False) as live:
        yield Screen(live)


def bars(values: Iterable[int]) -> str:
    """Return a bar for each value, beside the highest of them."""
    sizes = [*values]
    highest = max(sizes, default=0) or 1
    return "".join(_BARS[round(size / highest * (len(_BARS) - 1))] for size in sizes)


def _facts(measured: Lag) -> list[tuple[str, str, str | None]]:
    """Return names, values and colours."""
    since = measured.lag_seconds
    return [
        ("behind", readable_bytes(measured.lag_bytes), of_lag(measured)),
        *((("for", readable_seconds(since), of_lag(measured)),) if since is not None else ()),
        ("slot", measured.slot, None),
        ("streaming", "yes" if measured.active else "nobody", GOOD if measured.active else BAD),
        ("confirmed", measured.confirmed_flush_lsn or "never", None),
        *((("checkpoint", measured.checkpoint_lsn, None),) if measured.checkpoint_lsn else ()),
        ("WAL budget", wal_budget(measured), of_budget(measured)),
    ]

"""How far a verification is: a progress bar on a terminal, a log line now and then elsewhere."""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import monotonic

from cdc.assure.verify.comparison import ComparedTable, TableComparison
from cdc.assure.verify.watcher import Watcher

log = logging.getLogger(__name__)

_LOG_INTERVAL_S = 5.0


@contextmanager
def watching() -> Iterator[Watcher]:
    """Yield what shows it on stderr."""
    if sys.stderr.isatty():
        with _bar() as watcher:
            yield watcher
    else:
        yield _lines()


class _Rows:
    """Rows that are compared, and those that are to be, by the source's statistics."""

    def __init__(self) -> None:
        self.total = 0
        self._estimated: dict[str, int] = {}
        self._done: dict[str, int] = {}

    def begin(self, tables: Sequence[ComparedTable]) -> None:
        self._estimated = {table.name: table.estimated_rows for table in tables}
        self._done = {}
        self.total = sum(self._estimated.values())

    def report(self, name: str, counts: TableComparison) -> int:
        """Return how many rows are compared by now."""
        done = self._done.get(name, 0)
        self._done[name] = max(done, counts.source_rows)
        # An estimate that was too small is none of those rows that are left.
        self.total += max(self._done[name] - max(self._estimated[name], done), 0)
        return sum(self._done.values())


@contextmanager
def _bar() -> Iterator[Watcher]:
    from rich.console import Console  # noqa: PLC0415  # of each start 60 ms, for a terminal alone
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
    )
    rows = _Rows()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("asking the daemon", total=None)

        def wait_for(what: str) -> None:
            progress.update(task, description=what, total=None)

        def begin(tables: Sequence[ComparedTable]) -> None:
            rows.begin(tables)
            what = "1 table" if len(tables) == 1 else f"{len(tables)} tables"
            progress.update(task, description=f"comparing {what}", total=max(rows.total, 1))

        def report(name: str, counts: TableComparison) -> None:
            progress.update(task, completed=rows.report(name, counts), total=max(rows.total, 1))

        yield Watcher(wait_for, begin, report)


def _lines() -> Watcher:
    rows = _Rows()
    told = monotonic()

    def wait_for(what: str) -> None:
        nonlocal told
        if monotonic() - told > _LOG_INTERVAL_S:
            told = monotonic()
            log.info(what)

    def begin(tables: Sequence[ComparedTable]) -> None:
        rows.begin(tables)
        log.info("comparing", extra={"tables": len(tables), "estimated_rows": rows.total})

    def report(name: str, counts: TableComparison) -> None:
        nonlocal told
        done = rows.report(name, counts)
        if monotonic() - told > _LOG_INTERVAL_S:
            told = monotonic()
            log.info("compared", extra={"rows": done, "estimated_rows": rows.total})

    return Watcher(wait_for, begin, report)

"""A progress bar for the initial copy on a terminal, a log line now and then elsewhere."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from cdc.sync.snapshot import Report, SnapshotProgress

log = logging.getLogger(__name__)

_LOG_INTERVAL_S = 5.0


@contextmanager
def snapshot_progress() -> Iterator[Report]:
    """Yield a function that shows how far the copy has come."""
    if sys.stderr.isatty():
        with _bar() as report:
            yield report
    else:
        yield _logger()


@contextmanager
def _bar() -> Iterator[Report]:
    columns = (
        TextColumn("copying"),
        BarColumn(),
        TextColumn("{task.completed:,} rows, {task.fields[tables]} tables"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("copy", total=None, tables="", visible=False)

        def report(state: SnapshotProgress) -> None:
            progress.update(
                task,
                completed=state.rows,
                total=max(state.estimated_rows, state.rows),
                tables=f"{state.tables_done}/{state.tables}",
                visible=True,
            )

        yield report


def _logger() -> Report:
    last = monotonic()

    def report(state: SnapshotProgress) -> None:
        nonlocal last
        done = state.tables_done == state.tables
        if done or monotonic() - last > _LOG_INTERVAL_S:
            last = monotonic()
            log.info(
                "copying",
                extra={
                    "rows": state.rows,
                    "bytes": state.bytes,
                    "tables": f"{state.tables_done}/{state.tables}",
                },
            )

    return report

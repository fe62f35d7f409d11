"""A progress bar for copies on a terminal, a log line now and then elsewhere."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from cdc.progress import CopyProgress
from cdc.sync.copier import Report

log = logging.getLogger(__name__)

_LOG_INTERVAL_S = 5.0


@contextmanager
def copy_progress() -> Iterator[Report]:
    """Yield a function that shows how far the copies have come."""
    if sys.stderr.isatty():
        with _bar() as report:
            yield report
    else:
        yield _logger()


@contextmanager
def _bar() -> Iterator[Report]:
    from rich.console import Console  # noqa: PLC0415  # of each start 60 ms, for a terminal alone
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("copying"),
        BarColumn(),
        TextColumn("{task.completed:,} rows, {task.fields[tables]} tables"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("copy", total=None, tables="", visible=False)

        def report(state: CopyProgress) -> None:
            progress.update(
                task,
                completed=state.rows,
                total=max(state.estimated_rows, state.rows),
                tables=f"{state.tables_done}/{state.tables}",
                visible=state.tables_done < state.tables,
            )

        yield report


def _logger() -> Report:
    last = monotonic()

    def report(state: CopyProgress) -> None:
        nonlocal last
        if not state.tables:
            return
        if state.complete or monotonic() - last > _LOG_INTERVAL_S:
            last = monotonic()
            log.info(
                "copied" if state.complete else "copying",
                extra={
                    "rows": state.rows,
                    "bytes": state.bytes,
                    "tables": f"{state.tables_done}/{state.tables}",
                    "chunks": f"{state.chunks_done}/{state.chunks}",
                },
            )

    return report

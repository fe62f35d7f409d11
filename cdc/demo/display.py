"""What the demo is doing, on stderr: a moving line on a terminal, plain lines elsewhere.

`say` is for what happened and stays on the screen; `show` is for how far something has come, and is
drawn anew on a terminal or written about once a second. Both may be called from any thread.
"""

import sys
from time import monotonic
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

_LINE_INTERVAL_S = 1.0

# Leaves room for the longest state in 80 columns.
_BAR_WIDTH = 16


class Display:
    """The demo's voice, from its first second to its last."""

    def __init__(self) -> None:
        self._since = monotonic()
        self._last_line = self._since
        console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        self._live: Progress | None = None
        if sys.stderr.isatty() and not console.is_dumb_terminal:
            columns = (
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=_BAR_WIDTH),
                TextColumn("{task.fields[state]}", markup=False),
            )
            self._live = Progress(*columns, console=console, transient=True)
            self._task = self._live.add_task("", total=None, state="", visible=False)

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
        return monotonic() - self._since

    def say(self, line: str) -> None:
        """Write a line that stays."""
        self._last_line = monotonic()
        line = f"{self.seconds:5.1f} s  {line}"
        if self._live is not None:
            self._live.update(self._task, visible=False)
            self._live.console.print(line)
        else:
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()

    def show(self, doing: str, state: str, share: float | None = None) -> None:
        """Tell how far something has come; `share` runs from 0 to 1, None is unknown."""
        if self._live is not None:
            self._live.update(
                self._task,
                description=doing,
                state=state,
                completed=share or 0,
                total=None if share is None else 1,
                visible=True,
            )
        elif monotonic() - self._last_line >= _LINE_INTERVAL_S:
            self.say(f"  {doing}: {state}" if state else f"  {doing}")

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

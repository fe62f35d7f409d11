"""A trace for each batch: where its time went, from its first change to the source's being told.

    batch      ├── receive    its changes came, were decoded and folded
               ├── apply      the target wrote them; the COMMIT rides in the last packet of it
               └── confirm    until the source was told that it may forget them

Spans are made when all is over, from four moments noted on the way: so a row costs nothing, and
neither does a batch while no tracer is set up (`observe.telemetry`).
"""

from collections import deque
from dataclasses import dataclass
from time import time_ns

from opentelemetry import trace

from cdc import __version__
from cdc.changes.batch import Batch
from cdc.lsn import Lsn, format_lsn

# Batches that wait for their confirmation, which comes ten times a second while there are any.
_MOST = 1_000

_TRACER = trace.get_tracer("cdc", __version__)


@dataclass(slots=True)
class _Times:
    """When what happened to a batch, in ns since 1970."""

    end_lsn: Lsn
    changes: int
    size: int
    transactions: int
    final: bool
    came: int
    handed_over: int
    committed: int = 0


class Traces:
    """Those of one pipeline, which has one batch in hand at a time."""

    def __init__(self) -> None:
        # A span of no provider records nothing, and tells so.
        self._on = _TRACER.start_span("cdc start").is_recording()
        self._came = 0
        self._in_hand: _Times | None = None
        self._waiting: deque[_Times] = deque(maxlen=_MOST)

    def come(self) -> None:
        """Note that there is something for the next batch."""
        if self._on and not self._came:
            self._came = time_ns()

    def hand_over(self, batch: Batch) -> None:
        """Note that a batch goes to the target."""
        if self._on:
            at = time_ns()
            self._in_hand = _Times(
                end_lsn=batch.end_lsn or batch.open_lsn,
                changes=batch.changes,
                size=batch.size,
                transactions=len(batch.transactions),
                final=batch.final,
                came=self._came or at,
                handed_over=at,
            )
            self._came = 0

    def commit(self) -> None:
        """Note that the target has taken it."""
        if self._in_hand is not None:
            self._in_hand.committed = time_ns()
            self._waiting.append(self._in_hand)
            self._in_hand = None

    def confirm(self, lsn: Lsn) -> None:
        """Tell of all batches up to an LSN, which the source has been told."""
        while self._waiting and self._waiting[0].end_lsn <= lsn:
            _tell(self._waiting.popleft(), time_ns())


def _tell(times: _Times, confirmed: int) -> None:
    batch = _TRACER.start_span(
        "cdc batch",
        start_time=times.came,
        attributes={
            "cdc.batch.changes": times.changes,
            "cdc.batch.size": times.size,
            "cdc.batch.transactions": times.transactions,
            "cdc.batch.final": times.final,
            "cdc.batch.end_lsn": format_lsn(times.end_lsn),
        },
    )
    parts = (
        ("receive", times.came, times.handed_over),
        ("apply", times.handed_over, times.committed),
        ("confirm", times.committed, confirmed),
    )
    context = trace.set_span_in_context(batch)
    for name, begin, end in parts:
        _TRACER.start_span(name, context, start_time=begin).end(end)
    batch.end(confirmed)

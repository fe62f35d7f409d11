"""The last hour of a daemon: one sample every few seconds, in memory. Pure."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from cdc.observe.now import Now
from cdc.vitals import Vitals

INTERVAL_S = 5.0
_KEPT_S = 3600.0


@dataclass(slots=True, frozen=True)
class Sample:
    """One look."""

    unix_s: float
    lag_s: float | None
    lag_bytes: int | None
    changes_per_s: float


class History:
    """Samples of one daemon, the oldest first."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque(maxlen=int(_KEPT_S / INTERVAL_S))
        self._last: tuple[float, int] | None = None

    def __iter__(self) -> Iterator[Sample]:
        return iter(self._samples)

    def look(self, vitals: Vitals, now: Now) -> None:
        """Take a sample."""
        changes, rate = vitals.counts.changes, 0.0
        if self._last is not None and now.at_s > self._last[0]:
            rate = (changes - self._last[1]) / (now.at_s - self._last[0])
        self._last = now.at_s, changes
        lag_s = vitals.lag_s(now.source_us, now.at_s)
        self._samples.append(Sample(now.unix_s, lag_s, vitals.lag_bytes, rate))

    @property
    def changes_per_s(self) -> float:
        """The rate at the last look."""
        return self._samples[-1].changes_per_s if self._samples else 0.0

"""How much WAL the source may still write before the slot is lost: bytes, share and time. Pure.

A source with `max_slot_wal_keep_size` gives a slot up that holds back more WAL than that. What is
left is the source's own figure (`safe_wal_size`); how long it lasts follows from the rate at which
WAL is written, seen between two looks and smoothed, so that a checkpoint's burst is no trend.
"""

from dataclasses import dataclass
from enum import IntEnum
from math import exp

from cdc.lsn import Lsn

# A change of pace is believed to two thirds after so long, however often one looks meanwhile.
_SMOOTHING_S = 20.0


class Level(IntEnum):
    """How far the budget is used up."""

    CALM = 0
    WARNING = 1
    ALARM = 2


_WARNING_SHARE = 0.5
_ALARM_SHARE = 0.8


@dataclass(slots=True)
class WalBudget:
    """What the last look has shown. None: unknown, or without limit."""

    retained_bytes: int | None = None
    """WAL that the slot holds back."""
    safe_bytes: int | None = None
    """WAL that can still be written before the slot may be lost."""
    rate: float | None = None
    """Bytes of WAL a second."""
    status: str | None = None
    """The slot's wal_status: reserved, extended, unreserved or lost."""
    level: Level = Level.CALM
    _seen: tuple[float, Lsn] | None = None

    @property
    def source_lsn(self) -> Lsn | None:
        """Where the source's WAL ended."""
        return None if self._seen is None else self._seen[1]

    @property
    def used(self) -> float | None:
        """The share of the budget that is used up, 0 to 1."""
        if self.retained_bytes is None or self.safe_bytes is None:
            return None
        safe = max(self.safe_bytes, 0)
        return 1.0 if safe == 0 else self.retained_bytes / (self.retained_bytes + safe)

    @property
    def seconds_left(self) -> float | None:
        """Time until the slot may be lost, if WAL goes on being written as it was."""
        if self.safe_bytes is None or not self.rate:
            return None
        return max(self.safe_bytes, 0) / self.rate

    def look(
        self, at_s: float, source_lsn: Lsn, retained_bytes: int | None, safe_bytes: int | None
    ) -> bool:
        """Take in what the source says at a time; return True if the level has risen."""
        self.retained_bytes, self.safe_bytes = retained_bytes, safe_bytes
        if self._seen is not None and at_s > self._seen[0] and source_lsn >= self._seen[1]:
            lasted_s = at_s - self._seen[0]
            rate = (source_lsn - self._seen[1]) / lasted_s
            before = rate if self.rate is None else self.rate
            self.rate = before + (1 - exp(-lasted_s / _SMOOTHING_S)) * (rate - before)
        self._seen = (at_s, source_lsn)
        before_level, used = self.level, self.used or 0.0
        self.level = Level((used >= _WARNING_SHARE) + (used >= _ALARM_SHARE))
        return self.level > before_level

"""One moment by the clocks that others measure with."""

from dataclasses import dataclass
from time import monotonic, time

# 2000-01-01, from which PostgreSQL counts.
_EPOCH_S = 946_684_800


@dataclass(slots=True, frozen=True)
class Now:
    """A moment."""

    at_s: float
    """By a clock that never jumps."""
    unix_s: float

    @property
    def source_us(self) -> int:
        """As the source dates commits, if its clock is right and ours: µs since 2000-01-01."""
        return int((self.unix_s - _EPOCH_S) * 1e6)

    def unix_of(self, at_s: float) -> float:
        """Return the Unix time of a moment by the clock that never jumps."""
        return self.unix_s - (self.at_s - at_s)


def now() -> Now:
    """Return this moment."""
    return Now(monotonic(), time())


def unix_of_commit(commit_time: int) -> float:
    """Return the Unix time of a commit time, which is in µs since 2000-01-01."""
    return commit_time / 1e6 + _EPOCH_S

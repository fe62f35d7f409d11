"""How long this process has kept the target awake, and how often it woke it: what Neon bills. Pure.

A compute is suspended when nothing was asked of it for a while; a session that is idle does not
keep it awake (Neon's compute_ctl, monitor.rs). So each question is noted from its begin to its end,
and what lies between two that are closer than that while counts too, and so does the last while.
"""

# Neon's default, and all that its smaller plans offer.
SUSPENDED_AFTER_S = 300.0


class Wakefulness:
    """What one process has asked of one compute. Times are seconds of a clock that never jumps."""

    def __init__(self) -> None:
        self.wake_ups = 0
        """Times that it was asked after it had been left alone for long enough to be suspended."""
        self._questions = 0
        self._past_s = 0.0
        self._since: float | None = None
        self._last = 0.0

    def begin(self, at_s: float) -> None:
        """Note that something is being asked."""
        if self._since is None:
            self.wake_ups += 1
            self._since = at_s
        elif not self._questions and at_s - self._last > SUSPENDED_AFTER_S:
            self._past_s += self._last + SUSPENDED_AFTER_S - self._since
            self.wake_ups += 1
            self._since = at_s
        self._questions += 1
        self._last = at_s

    def end(self, at_s: float) -> None:
        """Note that it was answered, or given up."""
        self._questions -= 1
        self._last = at_s

    def seconds(self, at_s: float) -> float:
        """Return how long the compute has been awake for this process."""
        if self._since is None:
            return 0.0
        asleep_at = at_s if self._questions else min(at_s, self._last + SUSPENDED_AFTER_S)
        return self._past_s + asleep_at - self._since

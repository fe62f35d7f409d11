"""What this process asks of the target, and when. Pure.

So: how long it keeps the target awake (what Neon bills), how often it woke it, whether it answers.

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
        self.answers: bool | None = None
        """The last session could be opened; None: none was asked for yet."""
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

    def note(self, at_s: float) -> None:
        """Note that a byte of a question or its answer has moved, or that it is at work on one."""
        self._last = at_s

    def end(self, at_s: float) -> None:
        """Note that it was answered, or given up."""
        self._questions -= 1
        self._last = at_s

    @property
    def last_s(self) -> float:
        """When something was asked or answered last, or it was seen at work on that; 0: never."""
        return self._last

    def asleep(self, at_s: float) -> bool:
        """Tell whether it has been left alone for long enough to be suspended, as far as we know.

        Others may keep it awake.
        """
        return not self._questions and at_s - self._last > SUSPENDED_AFTER_S

    def seconds(self, at_s: float) -> float:
        """Return how long the compute has been awake for this process."""
        if self._since is None:
            return 0.0
        asleep_at = at_s if self._questions else min(at_s, self._last + SUSPENDED_AFTER_S)
        return self._past_s + asleep_at - self._since

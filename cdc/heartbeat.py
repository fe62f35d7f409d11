"""How long it takes from a commit on the source until all up to it is on the target. Pure.

A message that the daemon itself writes into the source's WAL is sent through the same slot as all
changes. It holds nothing that counts: where the WAL ended when it was written is known, and once
all before that is on the target, the time since then is the lag from end to end. Both ends of it
are read from one clock, ours, so no difference between clocks is in it.
"""

from dataclasses import dataclass

from cdc.lsn import Lsn


@dataclass(slots=True)
class Heartbeat:
    """One message at a time: as long as one is under way, no other is sent."""

    duration_s: float | None = None
    """What the last one that arrived has taken."""
    arrived: bool = False
    """One of this stream has: what was committed before the stream began is on the target."""
    _sent_at_s: float | None = None
    _lsn: Lsn | None = None

    def send(self, at_s: float) -> bool:
        """Note that one is about to be sent; return False if another is still under way."""
        if self._sent_at_s is not None:
            return False
        self._sent_at_s, self._lsn = at_s, None
        return True

    def sent(self, lsn: Lsn) -> None:
        """Note the LSN of the one that was sent."""
        self._lsn = lsn

    def forget(self) -> None:
        """Give the one up that is under way: its stream has ended, and another begins."""
        self._sent_at_s = self._lsn = None
        self.arrived = False

    def arrive(self, applied: Lsn, at_s: float) -> float | None:
        """Note that all before `applied` is on the target; return what the message took, if so."""
        if self._sent_at_s is None or self._lsn is None or applied <= self._lsn:
            return None
        self.duration_s = at_s - self._sent_at_s
        self._sent_at_s = self._lsn = None
        self.arrived = True
        return self.duration_s

    def age_s(self, at_s: float) -> float:
        """Return how long the one under way has been so."""
        return 0.0 if self._sent_at_s is None else at_s - self._sent_at_s

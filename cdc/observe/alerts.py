"""When somebody is told of a condition: once when it begins, once when it has ended. Pure.

    begins ─► lasts for long enough ─► FIRING ─► severity rises, or it lasts on ─► FIRING again
                                          └─► has not been seen for a while ─► RESOLVED

What comes and goes is one episode until it has been calm for a while; each time that it comes back
soon after its end, that while is doubled, to an hour. So a condition that flaps, however fast, soon
costs two messages an hour at most.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from uuid import uuid4

from cdc.observe.conditions import HALTED, Condition, Found, Kind

# Longer than the longest wait between two tries (30 s), in which a side that is away is not asked.
CALM_S = 60.0

# The most that a condition has to be calm for; and for so long after its end is it remembered.
LONGEST_CALM_S = 3600.0

# What nobody has mended is told again: twice in a working day, so that no shift misses it.
REMIND_S = 4 * 3600.0


class Status(StrEnum):
    """Whether a condition holds."""

    FIRING = "firing"
    RESOLVED = "resolved"


@dataclass(slots=True, frozen=True)
class Alert:
    """What somebody is told."""

    incident: str
    """The same for all that is told of one episode: first word, reminders and end."""
    number: int
    """Of the alert in its episode, from 1."""
    status: Status
    condition: Condition
    """As it was seen last."""
    began_at_s: float
    lasted_s: float

    @property
    def id(self) -> str:
        """No other alert has it; one that is sent again has the same."""
        return f"{self.incident}-{self.number}"


@dataclass(slots=True)
class Episode:
    """From the first time that a condition was seen until it is calm."""

    condition: Condition
    began_at_s: float
    seen_at_s: float
    calm_s: float
    told_at_s: float | None = None
    told: Condition | None = None
    """As it was told last, at its worst."""
    alerts: int = 0
    incident: str = field(default_factory=lambda: uuid4().hex)

    def is_due(self, at_s: float) -> bool:
        """Tell whether there is something to say of a condition that holds."""
        if self.told is None or self.told_at_s is None:
            return at_s - self.began_at_s >= self.condition.kind.after_s
        if at_s - self.told_at_s >= REMIND_S or self.condition.severity > self.told.severity:
            return True
        # One who was started again and ended by something else.
        return self.condition.kind is HALTED and self.condition.detail != self.told.detail

    def tell(self, status: Status, at_s: float) -> Alert:
        """Return what there is to say."""
        self.alerts += 1
        self.told_at_s = at_s
        if self.told is None or self.condition.severity >= self.told.severity:
            self.told = self.condition
        ended_at_s = at_s if status is Status.FIRING else self.seen_at_s
        lasted_s = ended_at_s - self.began_at_s
        return Alert(self.incident, self.alerts, status, self.condition, self.began_at_s, lasted_s)


class Watch:
    """What is known of one daemon's conditions. Times are of a clock that never jumps."""

    def __init__(self, episodes: tuple[Episode, ...] = ()) -> None:
        """`episodes` are those that somebody was told of before this process began."""
        self._open = {episode.condition.kind: episode for episode in episodes}
        self._ended: dict[Kind, tuple[float, float]] = {}
        """When a kind has ended last, and how long it had to be calm for that."""

    def see(self, found: Found, at_s: float) -> list[Alert]:
        """Take in what a look has found; return what is to be told."""
        alerts = []
        for condition in found.conditions:
            episode = self._see(condition, at_s)
            if episode.is_due(at_s):
                alerts.append(episode.tell(Status.FIRING, at_s))
        for kind in found.unknown & self._open.keys():
            self._open[kind].seen_at_s = at_s
        for kind, episode in list(self._open.items()):
            if at_s - episode.seen_at_s >= episode.calm_s:
                del self._open[kind]
                if episode.told is not None:
                    self._ended[kind] = at_s, episode.calm_s
                    alerts.append(episode.tell(Status.RESOLVED, at_s))
        return alerts

    def _see(self, condition: Condition, at_s: float) -> Episode:
        episode = self._open.get(condition.kind)
        if episode is None:
            episode = Episode(condition, at_s, at_s, self._calm_s(condition.kind, at_s))
            self._open[condition.kind] = episode
        episode.condition, episode.seen_at_s = condition, at_s
        return episode

    def _calm_s(self, kind: Kind, at_s: float) -> float:
        """Return for how long a kind that begins now has to be calm before it has ended."""
        ended_at_s, calm_s = self._ended.get(kind, (0.0, 0.0))
        if calm_s and at_s - ended_at_s < LONGEST_CALM_S:
            return min(2 * calm_s, LONGEST_CALM_S)
        return CALM_S

"""What an explanation says: findings, each a stage, what was seen there, and what to do next.

The first finding is the verdict; those behind it are what else an operator should know.
"""

from dataclasses import dataclass
from enum import Enum

from cdc.assure.lag import Lag


class Stage(Enum):
    """Where on its way a change is held back."""

    NONE = "none"
    """Nothing is behind."""
    SLOT = "slot"
    DAEMON = "daemon"
    """Nobody streams, or the daemon itself is slow or on strike."""
    SOURCE_TRANSACTION = "source transaction"
    DECODING = "decoding"
    NETWORK = "network"
    """Between the walsender and the daemon, whichever of the two ends it is."""
    GATHERING = "gathering"
    """The daemon waits on purpose: apply.flush_interval."""
    COPY = "copy"
    TARGET_AWAY = "target away"
    TARGET_LOCK = "target lock"
    TARGET_BUSY = "target busy"
    SPOOL = "spool"
    QUARANTINE = "quarantine"
    PACE = "pace"
    """Whether what is behind gets less."""
    UNKNOWN = "unknown"


@dataclass(slots=True, frozen=True)
class Finding:
    """Something that was seen."""

    stage: Stage
    seen: str
    """A clause with bytes, seconds, PIDs; never a row's value."""
    next: str
    """A command or statement to run; empty where there is nothing to do."""


@dataclass(slots=True, frozen=True)
class Explanation:
    """What `cdc explain lag` prints; the fields are its JSON."""

    behind: bool
    verdict: Stage
    asked_target: bool
    lag: Lag | None
    """As `cdc lag` has it; None where there is no slot."""
    findings: list[Finding]

    @property
    def explained(self) -> bool:
        """Nothing is behind, or what holds it back is known."""
        return self.verdict is not Stage.UNKNOWN

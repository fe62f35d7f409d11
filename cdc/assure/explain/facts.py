"""What source and target say of a pipeline that may be behind.

Nothing here asks a server, and nothing here is an opinion.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cdc.assure.explain.waits import IDLE
from cdc.assure.lag import Lag
from cdc.assure.spooled import Spooled
from cdc.lsn import Lsn
from cdc.postgres.activity import Blocked, Session

# The daemon speaks after a third of its patience with a silent server, five seconds by default
# (`cdc.sync.feedback`): who has not said anything for so long is not there.
SILENT_S = 7.0

# Seen in more than this part of the looks, something is the rule.
MOSTLY = 0.5


@dataclass(slots=True, frozen=True)
class Sender:
    """The walsender that serves the slot. LSNs are None where our role may not see them."""

    pid: int
    application: str
    client: str
    sent: Lsn | None
    """It has decoded up to here, and sent what is published of it."""
    received: Lsn | None
    """The daemon has said that it has this."""
    applied: Lsn | None
    """The daemon has said that the target has committed this."""
    replied: str | None
    """When the daemon spoke last, by its own clock: only good for being compared."""
    wait: str | None

    @property
    def hidden(self) -> bool:
        """Our role lacks pg_read_all_stats (pg_monitor): what it sees are PIDs and wait events."""
        return self.sent is None


@dataclass(slots=True, frozen=True)
class Spill:
    """What did not fit into logical_decoding_work_mem, since the slot's statistics began."""

    transactions: int
    bytes: int


@dataclass(slots=True, frozen=True)
class Look:
    """One look at the source."""

    at_s: float
    written: Lsn
    """Where its WAL ends."""
    confirmed: Lsn | None
    holder: int | None
    """PID of who has the slot."""
    consumer: str
    """The name of its application."""
    sender: Sender | None
    spill: Spill | None


def has_replied(looks: Sequence[Look]) -> bool:
    """Tell whether the daemon has spoken between the first and the last look."""
    return len({look.sender.replied for look in looks if look.sender is not None}) > 1


@dataclass(slots=True, frozen=True)
class SourceFacts:
    """The source. Without a slot there is little more than that."""

    slot: str
    flush_interval_s: float
    lag: Lag | None
    """None: there is no slot of that name."""
    looks: Sequence[Look] = ()
    round_trip_s: float = 0.0
    creating: Sequence[Blocked] = ()
    """Sessions that make a slot and wait for a transaction to end."""
    writers: Sequence[Session] = ()
    """Transactions that have written, the oldest first."""
    prepared: Sequence[tuple[str, float]] = ()
    """Prepared transactions and their age in seconds, the oldest first."""
    copiers: Sequence[Session] = ()
    """Sessions that copy tables, by their names."""
    work_mem: str = ""
    """logical_decoding_work_mem, as this session has it."""
    spooled: Spooled | None = None

    @property
    def first(self) -> Look:
        """The first look."""
        return self.looks[0]

    @property
    def last(self) -> Look:
        """The last look."""
        return self.looks[-1]

    @property
    def sender(self) -> Sender | None:
        """The walsender, as it was last seen."""
        return self.last.sender if self.looks else None

    @property
    def stands_behind(self) -> bool:
        """What was written before the first look is not confirmed by the last one, or is queued."""
        confirmed = self.last.confirmed if self.looks else None
        if self.lag is None or confirmed is None:
            return True
        if self.lag.lag_bytes == 0:
            return False
        return self.spooled is not None or confirmed < self.first.written

    def share_waiting(self, *waits: str) -> float:
        """Return in which part of the looks the walsender was seen in one of these waits."""
        senders = [look.sender for look in self.looks if look.sender is not None]
        seen = [(sender.wait or "").lower() in waits for sender in senders]
        return sum(seen) / len(seen) if seen else 0.0

    @property
    def silent(self) -> bool:
        """The daemon has not spoken for too long; False where that is hidden from us."""
        sender = self.sender
        seconds = self.last.at_s - self.first.at_s
        return (
            sender is not None
            and not sender.hidden
            and seconds > SILENT_S
            and not has_replied(self.looks)
        )

    @property
    def sent_all(self) -> bool:
        """The walsender has nothing left of what was written before the first look."""
        sender = self.sender
        if sender is None or sender.sent is None:
            return self.share_waiting(*IDLE) > MOSTLY
        return sender.sent >= self.first.written


@dataclass(slots=True, frozen=True)
class TargetFacts:
    """The target, as far as it can be reached."""

    connected_s: float
    """A connection took so long; or the attempt, if it failed."""
    problem: str | None = None
    """Why there is no connection."""
    refused: bool = False
    """The server, or the settings, will say the same again."""
    sessions: Sequence[Sequence[Session]] = ()
    """The daemon's sessions, look by look: who writes and who copies."""
    blocked: Sequence[Blocked] = ()
    quarantined: int = 0
    copying: Sequence[str] = ()
    """Tables whose copies are under way."""

    def share(self, *, busy: bool) -> float:
        """Return in which part of the looks a session was busy, or all of them waited for us."""
        seen = [any(_is_busy(session) for session in look) for look in self.sessions]
        return sum(found is busy for found in seen) / len(seen) if seen else 0.0


def _is_busy(session: Session) -> bool:
    return session.state == "active" and session.wait_type not in {"Client", "Lock"}


@dataclass(slots=True, frozen=True)
class Facts:
    """Both sides."""

    source: SourceFacts
    target: TargetFacts | None = None
    """None: it was not asked."""

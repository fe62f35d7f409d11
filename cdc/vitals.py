"""What a running daemon can tell of itself: one object, from its start to its end. Pure.

The daemon and the turn that it takes write it; whoever reports reads it, and asks neither database
anything by that: to look at a daemon never wakes the target.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from cdc.awake import Wakefulness
from cdc.budget import WalBudget
from cdc.counts import Counts
from cdc.heartbeat import Heartbeat
from cdc.lsn import Lsn
from cdc.progress import CopyProgress, Progress
from cdc.verified import Verifications


class Phase(StrEnum):
    """What the daemon is at."""

    STARTING = "starting"
    """Checks both sides, makes what is missing."""
    STANDBY = "standby"
    """Another daemon streams from the slot."""
    STREAMING = "streaming"
    SPOOLING = "spooling"
    """Streams by way of the spool: the target is away, or was."""
    WAITING = "waiting"
    """A side is away; it is tried again."""
    STOPPING = "stopping"
    HALTED = "halted"
    """An operator is needed."""


@dataclass(slots=True)
class Vitals:
    """What there is to tell. Times (`at_s`) are seconds of a clock that never jumps."""

    slot: str
    target: Wakefulness
    """What is asked of the target, and whether it answers."""
    phase: Phase = Phase.STARTING
    problem: str = ""
    """What keeps it from streaming, if anything: never a value, never a secret."""
    hint: str = ""
    """What to run or to change next about that."""
    source_answers: bool | None = None
    """None: it was not asked yet."""
    progress: Progress | None = None
    """Of the stream; of the last one, where there is none now."""
    streamed_at_s: float = 0.0
    """When the stream began, or the last one, where there is none now."""
    rows: dict[tuple[str, str], int | None] = field(default_factory=dict)
    """The tables that are copied, with their rows by the source's statistics; None: it has none."""
    counts: Counts = field(default_factory=Counts)
    heartbeat: Heartbeat = field(default_factory=Heartbeat)
    wal: WalBudget = field(default_factory=WalBudget)
    copy: CopyProgress = field(default_factory=CopyProgress)
    copied_at_s: float = 0.0
    """When a row was copied last."""
    verifications: Verifications = field(default_factory=Verifications)
    spool_limit_bytes: int = 0
    """What may be queued on the daemon's disk; 0: nothing is."""

    def begin_stream(self, phase: Phase, progress: Progress, to_copy: int, at_s: float) -> None:
        """Note that a stream has started, and how many tables are to be copied beside it."""
        self.phase, self.problem, self.hint = phase, "", ""
        self.progress, self.streamed_at_s = progress, at_s
        progress.heard_at_s = at_s
        self.counts.streams += 1
        if to_copy:
            # Until the copier says more: the copy is not in sync before it has begun.
            self.copy = CopyProgress(tables=to_copy)

    @property
    def streams(self) -> bool:
        """A stream is running."""
        return self.phase in {Phase.STREAMING, Phase.SPOOLING}

    @property
    def copying(self) -> bool:
        """Tables are being copied."""
        return self.copy.tables > 0 and not self.copy.complete

    @property
    def differing(self) -> dict[str, Lsn]:
        """Tables that are known to differ, and where they did: not to one who stands by.

        The one that leads may have found them equal since.
        """
        return {} if self.phase is Phase.STANDBY else self.verifications.differed_at

    def lag_s(self, source_us: int, at_s: float) -> float | None:
        """Return for how long the oldest commit that the target lacks has been there.

        `source_us` is now as the source dates commits (µs since 2000-01-01), `at_s` now as
        heartbeats are timed. Nought where nothing is missing; None where nobody knows: there is no
        stream, or what is queued on disk was not looked at yet.
        """
        progress = self.progress
        if progress is None or not self.streams:
            return None
        if progress.spooled_transactions and progress.oldest is None:
            return None
        oldest = progress.oldest
        if oldest is None and self.phase is Phase.STREAMING and not self.heartbeat.arrived:
            return None  # what the source had before the stream began, it may not have sent yet
        by_commit = 0.0 if oldest is None else max(source_us - oldest, 0) / 1e6
        # What the source has not sent yet, only a heartbeat tells. One that is fast is no lag.
        age = self.heartbeat.age_s(at_s)
        return max(by_commit, age if age > SLOW_HEARTBEAT_S else 0.0)

    @property
    def lag_bytes(self) -> int | None:
        """WAL of the source that is not accounted for on the target; None: unknown."""
        progress = self.progress
        if progress is None or self.wal.source_lsn is None:
            return None
        return max(self.wal.source_lsn - progress.reached, 0)

    @property
    def moved_at_s(self) -> float:
        """When anything came on last: the stream brought something, the target took it."""
        heard = 0.0 if self.progress is None else self.progress.heard_at_s
        return max(heard, self.counts.applied_at_s, self.copied_at_s)

    def hangs(self, at_s: float, limit_s: float) -> str | None:
        """Tell who has not moved for longer than a limit, though it ought to; None: nobody.

        Who waits on purpose does not hang: a daemon without a stream, a stream that stands still
        for the copy of a table (a foreign key that is checked may take an hour) or until the next
        burst, an applier that is about to ask a target that is away again. Nor does one whose
        statement takes its time, as long as the target is seen at work on it (`postgres.watch`).
        """
        progress = self.progress
        if progress is None or not self.streams:
            return None
        applier = progress if progress.replaying is None else progress.replaying
        asking = applier.asking_since_s
        if asking is not None:
            silent_s = at_s - max(asking, self.target.last_s, self.counts.applied_at_s)
            if silent_s > limit_s:
                return f"the target has not answered the applier for {silent_s:.0f} s"
        elif not progress.held_back and at_s - progress.heard_at_s > limit_s:
            return f"the stream has brought nothing for {at_s - progress.heard_at_s:.0f} s"
        return None


# A heartbeat that is under way for so long is late.
SLOW_HEARTBEAT_S = 5.0

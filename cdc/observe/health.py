"""Whether the copy can be relied on, in the words of the health check. Pure: from memory alone."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

import orjson

from cdc.lsn import format_lsn
from cdc.observe.now import Now, unix_of_commit
from cdc.vitals import Phase, Vitals

# A copy that is behind and has not come on for so long is stalled.
STALLED_S = 60.0

# A daemon whose reader or applier has not moved for so long is not alive.
HANGS_S = 300.0


class Side(StrEnum):
    """How a database does, as far as the daemon knows."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"
    ASLEEP = "asleep"
    """Left alone for so long that Neon suspends it; and well, when it was last asked."""


class SyncStatus(StrEnum):
    """How the copy does."""

    IN_SYNC = "in_sync"
    LAGGING = "lagging"
    """Behind by more than the limit, and coming on."""
    SNAPSHOT = "snapshot"
    """Tables are being copied."""
    STALLED = "stalled"
    """Nothing comes on: a side is away, or another daemon has the slot."""
    HALTED = "halted"
    """An operator is needed."""


@dataclass(slots=True, frozen=True)
class Health:
    """What the health check says."""

    supabase: Side
    neon: Side
    sync_status: SyncStatus
    lag_s: float | None
    """None: unknown."""
    lag_bytes: int | None
    checkpoint: str | None
    """LSN that the target has committed. While nothing is published it stands still."""
    checkpoint_time: str | None
    """When the source committed the last transaction that the target has."""
    problem: str | None

    @property
    def ready(self) -> bool:
        """The copy is as new as was asked for."""
        return self.sync_status is SyncStatus.IN_SYNC

    def as_json(self) -> bytes:
        """Return one JSON object."""
        return orjson.dumps(
            {
                "supabase": self.supabase,
                "neon": self.neon,
                "syncStatus": self.sync_status,
                "lagSeconds": None if self.lag_s is None else round(self.lag_s, 3),
                "lagBytes": self.lag_bytes,
                "checkpoint": self.checkpoint,
                "checkpointTime": self.checkpoint_time,
                "problem": self.problem,
            }
        )


def assess(vitals: Vitals, now: Now, max_lag_s: float) -> Health:
    """Say how things are; behind by more than `max_lag_s` is lagging."""
    progress = vitals.progress
    lag_s = vitals.lag_s(now.source_us, now.at_s)
    committed = None if progress is None else progress.commit_time
    return Health(
        supabase=_source(vitals),
        neon=_target(vitals, now),
        sync_status=_sync_status(vitals, now, lag_s, max_lag_s),
        lag_s=lag_s,
        lag_bytes=vitals.lag_bytes,
        checkpoint=None if progress is None else format_lsn(progress.checkpoint),
        checkpoint_time=iso(unix_of_commit(committed)) if committed else None,
        problem=vitals.problem or vitals.hangs(now.at_s, HANGS_S),
    )


def iso(unix_s: float) -> str:
    """Return a time as text."""
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds")


def _source(vitals: Vitals) -> Side:
    if vitals.source_answers is None:
        return Side.UNKNOWN
    return Side.HEALTHY if vitals.source_answers else Side.UNHEALTHY


def _target(vitals: Vitals, now: Now) -> Side:
    if vitals.target.answers is None:
        return Side.UNKNOWN
    if not vitals.target.answers:
        return Side.UNHEALTHY
    return Side.ASLEEP if vitals.target.asleep(now.at_s) else Side.HEALTHY


def _sync_status(vitals: Vitals, now: Now, lag_s: float | None, max_lag_s: float) -> SyncStatus:
    if vitals.phase is Phase.HALTED:
        return SyncStatus.HALTED
    if not vitals.streams:
        return SyncStatus.STALLED
    if vitals.copying:
        return SyncStatus.SNAPSHOT
    if lag_s is not None and lag_s <= max_lag_s:
        return SyncStatus.IN_SYNC
    if now.at_s - vitals.counts.applied_at_s > STALLED_S or vitals.target.answers is False:
        return SyncStatus.STALLED
    return SyncStatus.LAGGING

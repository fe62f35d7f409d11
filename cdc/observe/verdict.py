"""How the copy does, in a sentence: what the status page says on top, and what is to be heeded.

Each says what is so and, where somebody ought to do something, what to run next. Pure.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from cdc.budget import Level
from cdc.observe.health import Health, Side, SyncStatus, idle_s
from cdc.observe.now import Now
from cdc.progress import Progress
from cdc.verified import differ
from cdc.vitals import Phase, Vitals

_UNITS = (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


class Mood(StrEnum):
    """How much it ought to worry who reads it."""

    GOOD = "good"
    BUSY = "busy"
    """As it should be, and not for long."""
    WARNING = "warning"
    BAD = "bad"


@dataclass(slots=True, frozen=True)
class Verdict:
    """One finding."""

    mood: Mood
    title: str
    detail: str
    next: str = ""
    """What to run or to change; empty: nothing."""


def judge(vitals: Vitals, health: Health, now: Now, max_lag_s: float) -> Verdict:
    """Say how the copy does."""
    match health.sync_status:
        case SyncStatus.HALTED:
            return Verdict(
                Mood.BAD, "Halted", health.problem or "an operator is needed", vitals.hint
            )
        case SyncStatus.STALLED:
            return _without_stream(vitals, health) or _stalled(vitals, health, now)
        case SyncStatus.SNAPSHOT:
            return _snapshot(vitals, health)
        case SyncStatus.LAGGING:
            return _lagging(vitals, health, max_lag_s)
        case SyncStatus.IN_SYNC:
            return _in_sync(health)


def heed(vitals: Vitals) -> Iterator[Verdict]:
    """Yield what else somebody ought to know, however the copy does."""
    counts, wal = vitals.counts, vitals.wal
    if vitals.differing:
        yield Verdict(
            Mood.BAD,
            "Rows differ",
            f"{differ(vitals.differing)} from what the source has",
            "cdc verify --repair",
        )
    if wal.status == "lost":
        yield Verdict(
            Mood.BAD,
            "The slot is lost",
            "the source has dropped WAL that was not copied",
            "README, “When the slot is lost”",
        )
    elif wal.level is not Level.CALM:
        yield Verdict(
            Mood.BAD if wal.level is Level.ALARM else Mood.WARNING,
            "WAL budget",
            f"{wal.used or 0:.0%} of the WAL that the source keeps for the slot is used up",
            "cdc slot list",
        )
    if counts.quarantined:
        yield Verdict(
            Mood.WARNING,
            "Quarantine",
            f"{_number(counts.quarantined, 'row', 'rows')} not up to date: the target refuses"
            " changes of them",
            "cdc quarantine list",
        )
    if counts.open_entries:
        yield Verdict(
            Mood.WARNING,
            "Ledger",
            f"{_number(counts.open_entries, 'open entry', 'open entries')}: changes may be missing"
            " on the target",
            "cdc status",
        )


def _without_stream(vitals: Vitals, health: Health) -> Verdict | None:
    """Say why there is no stream; None: there is one."""
    match vitals.phase:
        case Phase.STARTING:
            return Verdict(Mood.BUSY, "Starting", "both databases are looked at")
        case Phase.STOPPING:
            return Verdict(Mood.BUSY, "Stopping", "the batch in hand is finished and confirmed")
        case Phase.STANDBY:
            return Verdict(
                Mood.BUSY, "Standing by", f"another daemon streams from slot {vitals.slot}"
            )
        case Phase.WAITING:
            away = "target" if vitals.target.answers is False else "source"
            problem = health.problem or f"the {away} does not answer"
            return Verdict(
                Mood.BAD, "Stalled", f"{problem}; it is tried again", vitals.hint or "cdc check"
            )
        case _:
            return None


def _stalled(vitals: Vitals, health: Health, now: Now) -> Verdict:
    progress = vitals.progress
    if health.neon is Side.UNHEALTHY:
        kept = "the source keeps what is to be copied"
        if progress is not None and progress.spooled_transactions:
            kept = f"waiting: {_spooled(progress)}"
        detail = f"the target does not answer{_behind(health)}; {kept}"
    elif health.problem:
        detail = health.problem
    else:
        silent = _seconds(idle_s(vitals, now, health.lag_s))
        detail = f"nothing was applied for {silent}{_behind(health)}"
        return Verdict(Mood.BAD, "Stalled", detail, "cdc explain lag")
    return Verdict(Mood.BAD, "Stalled", detail, "cdc check")


def _snapshot(vitals: Vitals, health: Health) -> Verdict:
    copy = vitals.copy
    detail = f"{copy.tables_done:,} of {copy.tables:,} tables, {copy.rows:,} rows so far"
    if health.neon is Side.UNHEALTHY:
        return Verdict(
            Mood.BAD, "Copying tables", f"{detail}; the target does not answer", "cdc check"
        )
    return Verdict(Mood.BUSY, "Copying tables", detail)


def _lagging(vitals: Vitals, health: Health, max_lag_s: float) -> Verdict:
    progress = vitals.progress
    if progress is not None and progress.spooled_transactions:
        detail = f"the target was away and catches up: {_spooled(progress)}"
    elif health.lag_s is None:
        detail = "how far behind is not known yet"
    else:
        detail = (
            f"{_seconds(health.lag_s)} behind the source, more than {_seconds(max_lag_s)};"
            " it comes on"
        )
    return Verdict(Mood.WARNING, "Lagging", detail, "cdc explain lag")


def _in_sync(health: Health) -> Verdict:
    lag_s = health.lag_s or 0.0
    if health.neon is Side.UNHEALTHY:
        return Verdict(
            Mood.WARNING,
            "In sync until now",
            f"the target does not answer{_behind(health)}; what comes is kept",
            "cdc check",
        )
    if not lag_s:
        return Verdict(Mood.GOOD, "In sync", "the target has all that was committed")
    return Verdict(Mood.GOOD, "In sync", f"{_seconds(lag_s)} behind the source")


def _behind(health: Health) -> str:
    return f", {_seconds(health.lag_s)} behind the source" if health.lag_s else ""


def _number(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _spooled(progress: Progress) -> str:
    number = _number(progress.spooled_transactions, "transaction", "transactions")
    return f"{number} on the daemon's disk ({_bytes(progress.spooled_bytes)})"


def _seconds(seconds: float) -> str:
    if seconds < 10:  # noqa: PLR2004  # the digit after the point says something
        return f"{seconds:.1f} s"
    if seconds < 120:  # noqa: PLR2004
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _bytes(size: int) -> str:
    for unit, factor in _UNITS:
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"

"""What may be wrong with a daemon, and what of that is: from its vitals and a moment. Pure.

A kind says what it is and what to run next; a condition is a kind that holds now, with the figures
of now. Neither holds a row's value or a secret. When somebody is told of it, `alerts` decides.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from cdc.budget import Level
from cdc.observe.health import HANGS_S
from cdc.observe.now import Now
from cdc.verified import differ
from cdc.vitals import Phase, Vitals

# What mends itself within two minutes, such as a restart of either server or a compute that wakes
# up, is no reason to call anybody: the slot keeps WAL meanwhile.
AWAY_S = 120.0


class Severity(IntEnum):
    """How soon somebody has to look."""

    WARNING = 1
    """Within the day: the daemon copes, for now."""
    CRITICAL = 2
    """Now: nothing is copied, soon there is nothing to copy from, or the copy is wrong."""


@dataclass(slots=True, frozen=True)
class Kind:
    """Something that may be wrong."""

    name: str
    """Stable: receivers may know it by that."""
    severity: Severity
    """At first."""
    what: str
    next: str
    """What to run or to look at."""
    after_s: float = 0.0
    """For how long it has to last before it is worth a message."""


HALTED = Kind(
    "halted",
    Severity.CRITICAL,
    "the daemon has ended: it needs an operator",
    "`cdc check` looks at both databases; then start the daemon again",
)
SLOT_LOST = Kind(
    "slot_lost",
    Severity.CRITICAL,
    "the source has given up the slot: what it held back and was not copied is gone",
    "`cdc slot list` shows it; a new copy is made as the README says (“When the slot is lost”)",
)
WAL_BUDGET = Kind(
    "wal_budget",
    Severity.WARNING,
    "the slot holds back much of the WAL that the source keeps for it; beyond that it is lost",
    "`cdc lag` shows how far the copy is; bring the target back, or let the source keep more:"
    " max_slot_wal_keep_size",
)
LAGGING = Kind(
    "lagging",
    Severity.WARNING,
    "the target is further behind the source than alerts.max_lag",
    "`cdc lag` and `cdc status` show where it stands; on the target, pg_locks shows who is in the"
    " way",
)
SOURCE_AWAY = Kind(
    "source_away",
    Severity.CRITICAL,
    "the source cannot be streamed from",
    "`cdc check`: is Supabase up, and does it let this machine's address in?",
    AWAY_S,
)
TARGET_AWAY = Kind(
    "target_away",
    Severity.WARNING,
    "the target does not answer; the source keeps what is written meanwhile",
    "`cdc check`: is the Neon endpoint up, and does it let this machine's address in?",
    AWAY_S,
)
STALLED = Kind(
    "stalled",
    Severity.WARNING,
    "the daemon does not stream, though nobody is known to be away",
    "`cdc status` shows both sides, the daemon's log what it waits for",
    AWAY_S,
)
HANGING = Kind(
    "hanging",
    Severity.CRITICAL,
    "the daemon does not come on, and nothing tells it why",
    "start it again: it goes on from the checkpoint",
)
QUARANTINE = Kind(
    "quarantine",
    Severity.WARNING,
    "the target refuses changes: they wait in the quarantine, and others go on",
    "`cdc quarantine list` says why; mend that, then `cdc quarantine retry`",
)
VERIFICATION = Kind(
    "verification",
    Severity.CRITICAL,
    "the target does not hold what the source does: `cdc verify` found rows that differ",
    "`cdc verify --repair` sets them to what the source has; docs/operating.md"
    " (“CdcVerificationDiffers”) says how to find who changed them",
)

KINDS = (
    HALTED,
    SLOT_LOST,
    WAL_BUDGET,
    LAGGING,
    SOURCE_AWAY,
    TARGET_AWAY,
    STALLED,
    HANGING,
    QUARANTINE,
    VERIFICATION,
)


@dataclass(slots=True, frozen=True)
class Condition:
    """A kind that holds now."""

    kind: Kind
    severity: Severity
    detail: str = ""
    """Figures, or the problem."""
    next: str = ""


@dataclass(slots=True, frozen=True)
class Found:
    """What a look has found."""

    conditions: tuple[Condition, ...]
    unknown: frozenset[Kind] = frozenset()
    """Kinds of which nobody knows now: what held before is taken to hold still."""


def look(vitals: Vitals, now: Now, max_lag_s: float) -> Found:
    """Find what is wrong; behind by more than `max_lag_s` is lagging."""
    lag_s = vitals.lag_s(now.source_us, now.at_s)
    found = (
        *_halted(vitals),
        *_wal(vitals),
        *_lagging(vitals, lag_s, max_lag_s),
        *_away(vitals),
        *_moves(vitals, now),
        *_quarantine(vitals),
        *_verification(vitals),
    )
    return Found(found, frozenset(_unknown(vitals, lag_s)))


def _unknown(vitals: Vitals, lag_s: float | None) -> Iterator[Kind]:
    """Yield what nobody knows: before a daemon has looked, or has come so far."""
    stands_by = vitals.phase is Phase.STANDBY  # another daemon has the slot, and tells of it
    if not (vitals.streams or stands_by):
        yield HALTED
    if lag_s is None and not stands_by:
        yield LAGGING
    if vitals.wal.source_lsn is None:
        yield from (SLOT_LOST, WAL_BUDGET)
    if vitals.source_answers is None:
        yield SOURCE_AWAY
    if vitals.target.answers is None:
        yield TARGET_AWAY
    if not vitals.counts.batches:
        yield QUARANTINE
    if stands_by or vitals.verifications.last is None:
        yield VERIFICATION


def _of(kind: Kind, detail: str) -> Condition:
    return Condition(kind, kind.severity, detail, kind.next)


def _halted(vitals: Vitals) -> Iterator[Condition]:
    if vitals.phase is Phase.HALTED:
        yield Condition(HALTED, HALTED.severity, vitals.problem, vitals.hint or HALTED.next)


def _wal(vitals: Vitals) -> Iterator[Condition]:
    wal = vitals.wal
    if wal.status == "lost":
        yield _of(SLOT_LOST, f"slot {vitals.slot}")
    elif wal.level > Level.CALM and wal.used is not None and wal.safe_bytes is not None:
        seconds = wal.seconds_left
        pace = "" if seconds is None else f", which lasts {seconds:,.0f} s at the pace of now"
        severity = Severity.CRITICAL if wal.level is Level.ALARM else Severity.WARNING
        detail = f"{wal.used:.0%} used, {max(wal.safe_bytes, 0):,} bytes left{pace}"
        yield Condition(WAL_BUDGET, severity, detail, WAL_BUDGET.next)


def _lagging(vitals: Vitals, lag_s: float | None, max_lag_s: float) -> Iterator[Condition]:
    if lag_s is not None and lag_s > max_lag_s:
        size = "" if vitals.lag_bytes is None else f" and {vitals.lag_bytes:,} bytes of WAL"
        yield _of(LAGGING, f"{lag_s:,.0f} s{size} behind, the limit is {max_lag_s:,.0f} s")


def _away(vitals: Vitals) -> Iterator[Condition]:
    waits = vitals.phase in {Phase.STARTING, Phase.WAITING}
    if vitals.target.answers is False:
        yield _of(TARGET_AWAY, "" if vitals.source_answers is False else vitals.problem)
    if waits and vitals.source_answers is False:
        yield _of(SOURCE_AWAY, vitals.problem)
    if waits and vitals.source_answers is not False and vitals.target.answers is not False:
        yield _of(STALLED, vitals.problem)


def _moves(vitals: Vitals, now: Now) -> Iterator[Condition]:
    problem = vitals.hangs(now.at_s, HANGS_S)
    if problem is not None:
        yield _of(HANGING, problem)


def _quarantine(vitals: Vitals) -> Iterator[Condition]:
    if vitals.counts.quarantined:
        yield _of(QUARANTINE, f"rows whose changes wait: {vitals.counts.quarantined:,}")


def _verification(vitals: Vitals) -> Iterator[Condition]:
    if vitals.differing:
        yield _of(VERIFICATION, differ(vitals.differing))

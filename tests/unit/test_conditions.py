"""Which conditions hold, from what a daemon knows of itself; and the page about them."""

import re
from dataclasses import dataclass, replace

import pytest

from cdc.awake import Wakefulness
from cdc.budget import WalBudget
from cdc.counts import Counts
from cdc.heartbeat import Heartbeat
from cdc.lsn import Lsn
from cdc.observe.conditions import (
    HALTED,
    HANGING,
    KINDS,
    LAGGING,
    QUARANTINE,
    SLOT_LOST,
    SOURCE_AWAY,
    STALLED,
    TARGET_AWAY,
    VERIFICATION,
    WAL_BUDGET,
    Kind,
    Severity,
    look,
)
from cdc.observe.health import HANGS_S
from cdc.observe.now import Now
from cdc.progress import Progress
from cdc.verified import Verifications, Verified
from cdc.vitals import Phase, Vitals
from tests.servers import CHECKOUT

MB = 1 << 20
AT_S = 10_000.0
NOW = Now(AT_S, 1_800_000_000.0)
LIMIT_S = 300.0


# What holds


def target(*, answers: bool | None = True) -> Wakefulness:
    """A target that was asked a second ago."""
    awake = Wakefulness()
    awake.begin(AT_S - 1)
    awake.end(AT_S - 1)
    awake.answers = answers
    return awake


def stream(*, lag_s: float = 0, silent_s: float = 0) -> Progress:
    """A stream with a commit that waits for so long, and nothing heard for so long."""
    progress = Progress(Lsn(100), Lsn(100), Lsn(100), heard_at_s=AT_S - silent_s)
    if lag_s:
        progress.begin(int(NOW.source_us - lag_s * 1e6))
    return progress


def budget(retained: int, safe: int, status: str = "reserved") -> WalBudget:
    """A budget of which so much is used, at a megabyte a second."""
    wal = WalBudget(status=status)
    wal.look(AT_S - 10, Lsn(100), (retained - 10) * MB, (safe + 10) * MB)
    wal.look(AT_S, Lsn(100 + 10 * MB), retained * MB, safe * MB)
    return wal


def verified(*differing: str) -> Verifications:
    """What a verification of all tables has found."""
    found = Verifications()
    found.remember(Verified(Lsn(0x2000), NOW.unix_s - 60, 9, 1000, differing))
    return found


WELL = Vitals(
    "cdc_credit",
    target(),
    Phase.STREAMING,
    source_answers=True,
    progress=stream(),
    counts=Counts(batches=1),
    wal=budget(10, 90),
    heartbeat=Heartbeat(arrived=True),
    verifications=verified(),
)


@dataclass(frozen=True, slots=True)
class Case:
    """A daemon, and what is wrong with it."""

    vitals: Vitals
    kind: Kind
    severity: Severity
    said: str = ""
    next: str = ""


CASES = {
    "halted": Case(
        replace(WELL, phase=Phase.HALTED, problem="slot x is gone", hint="run `cdc init`"),
        HALTED, Severity.CRITICAL, "slot x is gone", "run `cdc init`",
    ),
    "halted by something that gives no hint": Case(
        replace(WELL, phase=Phase.HALTED, problem="InvalidPassword (28P01)"),
        HALTED, Severity.CRITICAL, "InvalidPassword", "cdc check",
    ),
    "slot lost": Case(
        replace(WELL, wal=budget(100, 0, "lost")),
        SLOT_LOST, Severity.CRITICAL, "cdc_credit", "cdc slot list",
    ),
    "half of the WAL budget used": Case(
        replace(WELL, wal=budget(55, 45)),
        WAL_BUDGET, Severity.WARNING, "55% used, 47,185,920 bytes left, which lasts 45 s",
        "max_slot_wal_keep_size",
    ),
    "four fifths of it": Case(
        replace(WELL, wal=budget(85, 15)),
        WAL_BUDGET, Severity.CRITICAL, "85% used, 15,728,640 bytes left",
    ),
    "lagging": Case(
        replace(WELL, progress=stream(lag_s=301)),
        LAGGING, Severity.WARNING, "301 s and 10,485,760 bytes of WAL behind", "cdc lag",
    ),
    "source away": Case(
        replace(WELL, phase=Phase.WAITING, source_answers=False, problem="connection refused"),
        SOURCE_AWAY, Severity.CRITICAL, "connection refused", "cdc check",
    ),
    "target away while streaming": Case(
        replace(WELL, target=target(answers=False)), TARGET_AWAY, Severity.WARNING, "", "cdc check",
    ),
    "target away before the first stream": Case(
        replace(WELL, phase=Phase.WAITING, target=target(answers=False), problem="no answer"),
        TARGET_AWAY, Severity.WARNING, "no answer", "cdc check",
    ),
    "stalled": Case(
        replace(WELL, phase=Phase.WAITING, problem="lock not available (55P03)"),
        STALLED, Severity.WARNING, "55P03", "cdc status",
    ),
    "hanging": Case(
        replace(WELL, progress=stream(silent_s=HANGS_S + 1)),
        HANGING, Severity.CRITICAL, "nothing for 301 s", "checkpoint",
    ),
    "quarantine": Case(
        replace(WELL, counts=Counts(batches=1, quarantined=3)),
        QUARANTINE, Severity.WARNING, "3", "cdc quarantine list",
    ),
    "rows differ": Case(
        replace(WELL, verifications=verified("credit.b", "credit.a")),
        VERIFICATION, Severity.CRITICAL, "credit.a and credit.b differ at 0/2000",
        "cdc verify --repair",
    ),
    "rows of many tables differ": Case(
        replace(WELL, verifications=verified(*(f"credit.t{n}" for n in range(1, 8)))),
        VERIFICATION, Severity.CRITICAL,
        "7 tables: credit.t1, credit.t2, credit.t3, credit.t4, credit.t5 and 2 more differ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_holds(name: str) -> None:
    """One thing is wrong, and that alone is found: how bad it is, its figures, what to run next."""
    case = CASES[name]
    (found,) = look(case.vitals, NOW, LIMIT_S).conditions
    assert (found.kind, found.severity) == (case.kind, case.severity)
    assert case.said in found.detail
    assert case.next in found.next


ALL_WELL = {
    "nothing is wrong": WELL,
    "almost at the limit of lag": replace(WELL, progress=stream(lag_s=299)),
    "standing by, however long": replace(WELL, phase=Phase.STANDBY, progress=None),
    "standing by, where another may have mended what was found": replace(
        WELL, phase=Phase.STANDBY, progress=None, verifications=verified("credit.a")
    ),
    "a verification that came to no result": replace(WELL, verifications=Verifications(failed=1)),
    "stopping": replace(WELL, phase=Phase.STOPPING),
    "a source without limit": replace(WELL, wal=WalBudget(status="reserved")),
    "less than half of the WAL budget": replace(WELL, wal=budget(49, 51)),
}


@pytest.mark.parametrize("name", ALL_WELL)
def test_what_is_as_it_should_be(name: str) -> None:
    """Nothing is found where nothing is wrong."""
    assert look(ALL_WELL[name], NOW, LIMIT_S).conditions == ()


def test_each_kind_is_tried() -> None:
    """All kinds are among these cases, each has a name of its own, and says what to run next."""
    assert {case.kind for case in CASES.values()} == set(KINDS)
    assert len({kind.name for kind in KINDS}) == len(KINDS)
    assert all(kind.what and kind.next for kind in KINDS)


UNKNOWN: dict[str, tuple[Vitals, set[Kind]]] = {
    "nothing": (WELL, set()),
    "the source's WAL": (replace(WELL, wal=WalBudget()), {SLOT_LOST, WAL_BUDGET}),
    "the source": (replace(WELL, source_answers=None), {SOURCE_AWAY}),
    "the target": (replace(WELL, target=target(answers=None)), {TARGET_AWAY}),
    "the quarantine": (replace(WELL, counts=Counts()), {QUARANTINE}),
    "the lag": (replace(WELL, progress=None), {LAGGING}),
    "whether it streams": (replace(WELL, phase=Phase.STARTING), {HALTED, LAGGING}),
    "what another knows": (replace(WELL, phase=Phase.STANDBY, progress=None), {VERIFICATION}),
    "whether rows differ": (replace(WELL, verifications=Verifications()), {VERIFICATION}),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_nobody_knows(name: str) -> None:
    """What was not asked yet, or cannot be, is neither well nor wrong."""
    vitals, unknown = UNKNOWN[name]
    assert look(vitals, NOW, LIMIT_S).unknown == unknown


# The page about it


def test_the_page_has_each_alert() -> None:
    """docs/alerts.md says of each alert what the code says, and names no other."""
    page = (CHECKOUT / "docs" / "alerts.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|.*$", page, re.MULTILINE)
    assert rows == [kind.name for kind in KINDS]
    for line in alerts_table():
        assert line in page, f"docs/alerts.md lacks: {line}"


def alerts_table() -> list[str]:
    """Give the lines that the page has to hold."""
    return [
        f"| `{kind.name}` | {severities(kind)} | {kind.what}{after(kind)} | {kind.next} |"
        for kind in KINDS
    ]


def severities(kind: Kind) -> str:
    """Give how bad it may be."""
    found = {case.severity for case in CASES.values() if case.kind is kind}
    return ", ".join(severity.name.lower() for severity in sorted(found))


def after(kind: Kind) -> str:
    """Give how long it has to last."""
    return f" (for {kind.after_s:.0f} s)" if kind.after_s else ""


if __name__ == "__main__":
    print("\n".join(alerts_table()))  # noqa: T201  # to be pasted into the page

"""What is concluded from what source and target say: pure, so that rare troubles need no server."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from cdc.assure.explain import explain, needs_target
from cdc.assure.explain.facts import Facts, Look, Sender, SourceFacts, Spill, TargetFacts
from cdc.assure.explain.findings import Explanation, Stage
from cdc.assure.lag import Lag
from cdc.assure.spooled import Spooled
from cdc.lsn import Lsn, format_lsn
from cdc.postgres.activity import Blocked, Session

MB = 1 << 20

DAEMON = "cdc 0123abcd"

WRITTEN, CONFIRMED = Lsn(900 * MB), Lsn(800 * MB)

LAG = Lag(
    slot="s",
    active=True,
    wal_status="reserved",
    source_lsn=format_lsn(WRITTEN),
    confirmed_flush_lsn=format_lsn(CONFIRMED),
    checkpoint_lsn=None,
    lag_bytes=100 * MB,
    lag_seconds=7.5,
    retained_wal_bytes=100 * MB,
    safe_wal_bytes=None,
)

IDLE = Session(7, "cdc", "owner", False, "idle", "Client", "ClientRead", None, None, 1.0)
BUSY = replace(IDLE, state="active", wait_type="IO", wait="DataFileRead")
WAITING = replace(IDLE, state="active", wait_type="Lock", wait="relation")
BLOCKER = Session(9, "psql", "dba", False, "idle in transaction", None, None, "select ?", 70, 70)


def sender(wait: str | None = "WalSenderWaitForWal", *, sent: Lsn = WRITTEN, n: int = 0) -> Sender:
    """Give a walsender in a wait; the daemon has replied for the n-th time."""
    return Sender(3, DAEMON, "10.0.0.1", sent, WRITTEN, CONFIRMED, f"reply {n}", wait)


def looks(
    senders: Sequence[Sender], *, confirmed: Lsn = CONFIRMED, spill: Sequence[int] = (0, 0)
) -> list[Look]:
    """Give a look a second; the last one sees `confirmed`."""
    spills = [spill[0], *[spill[1]] * (len(senders) - 1)]
    ends = [CONFIRMED, *[confirmed] * (len(senders) - 1)]
    return [
        Look(float(n), WRITTEN, ends[n], 3, DAEMON, found, Spill(1, spills[n]))
        for n, found in enumerate(senders)
    ]


REPLYING = looks([sender(n=n) for n in range(3)])
UNREAD = looks([sender("WalSenderWriteData", sent=CONFIRMED, n=n) for n in range(3)])
SOURCE = SourceFacts("s", 0.0, LAG, looks=REPLYING, work_mem="64MB")


def target(
    *sessions: Session, connected_s: float = 0.1, blocked: Sequence[Blocked] = ()
) -> TargetFacts:
    """Give a target on which sessions are as they are in each look."""
    return TargetFacts(connected_s, sessions=[sessions] * 3, blocked=blocked)


def asked(source: SourceFacts = SOURCE, there: TargetFacts | None = None) -> Explanation:
    """Conclude; the target is there exactly where it is needed."""
    facts = Facts(source)
    assert needs_target(facts) == (there is not None)
    return explain(Facts(source, there))


def seen(found: Explanation, stage: Stage) -> list[str]:
    """Give what was seen at a stage."""
    return [finding.seen for finding in found.findings if finding.stage is stage]


SOURCES: dict[str, tuple[SourceFacts, Stage, str]] = {
    "a slot that is lost": (
        replace(SOURCE, lag=replace(LAG, wal_status="lost")),
        Stage.SLOT,
        "slot s is lost",
    ),
    "a standby of the source that is away": (
        replace(SOURCE, looks=looks([sender("WaitForStandbyConfirmation")] * 3)),
        Stage.SLOT,
        "synchronized_standby_slots",
    ),
    "decoding without a spill": (
        replace(SOURCE, looks=looks([sender(None, sent=CONFIRMED)] * 3)),
        Stage.DECODING,
        "busy in 3 of 3 looks",
    ),
    "decoding with one": (
        replace(
            SOURCE,
            looks=looks([sender("ReorderBufferWrite", sent=CONFIRMED)] * 3, spill=(MB, 5 * MB)),
        ),
        Stage.DECODING,
        "5 MB of 1 of them, 4 MB just now (logical_decoding_work_mem is 64MB)",
    ),
    "a daemon that is silent and does not read": (
        replace(SOURCE, looks=looks([sender("WalSenderWriteData", sent=CONFIRMED)] * 9)),
        Stage.NETWORK,
        "10.0.0.1 has not said a word for 8.0 s, and does not read what walsender PID 3 sends",
    ),
    "changes that are gathered": (
        replace(SOURCE, flush_interval_s=900.0),
        Stage.GATHERING,
        "applied every 15 min",
    ),
}


@pytest.mark.parametrize("name", SOURCES)
def test_the_source_alone(name: str) -> None:
    """Some troubles are seen without the target, which is then left alone."""
    source, stage, part = SOURCES[name]
    found = asked(source)
    assert (found.verdict, found.explained, found.asked_target) == (stage, True, False)
    assert part in found.findings[0].seen


TARGETS: dict[str, tuple[SourceFacts, TargetFacts, Stage, str]] = {
    "a connection that is refused": (
        SOURCE,
        TargetFacts(0.1, "InvalidPassword (28P01)", refused=True),
        Stage.TARGET_AWAY,
        "refuses a connection after 0.1 s: InvalidPassword",
    ),
    "a target that wakes up": (SOURCE, target(connected_s=3.0), Stage.TARGET_AWAY, "took 3.0 s"),
    "a target that is busy": (
        SOURCE,
        target(BUSY),
        Stage.TARGET_BUSY,
        "PID 7 was busy in 100% of the looks, waiting for IO/DataFileRead",
    ),
    "a lock": (
        SOURCE,
        target(WAITING, blocked=[Blocked(WAITING, "credit.t (RowExclusiveLock)", [BLOCKER])]),
        Stage.TARGET_LOCK,
        "user dba, idle in transaction, transaction open for 1 min, last ran `select ?`)",
    ),
    "a copy": (
        SOURCE,
        replace(target(BUSY), copying=["a.a", "a.b", "a.c", "a.d"]),
        Stage.COPY,
        "tables are being copied: a.a, a.b, a.c and 1 more",
    ),
    "a line or a daemon that is slow": (
        replace(SOURCE, looks=UNREAD),
        target(IDLE),
        Stage.NETWORK,
        "more to send than the daemon at 10.0.0.1 reads",
    ),
    "a daemon that holds changes": (SOURCE, target(IDLE), Stage.DAEMON, "100 MB that it has not"),
    "a daemon without a session": (SOURCE, target(), Stage.DAEMON, "no session on the target"),
}


@pytest.mark.parametrize("name", TARGETS)
def test_the_target(name: str) -> None:
    """What has left the source is held back somewhere from the daemon on."""
    source, there, stage, part = TARGETS[name]
    found = asked(source, there)
    assert (found.verdict, found.explained, found.asked_target) == (stage, True, True)
    assert part in found.findings[0].seen


def test_nothing_is_found() -> None:
    """What nobody is seen to hold back is no answer."""
    waits = ("WalSenderWaitForWal", None, "WalSenderWaitForWal")
    moving = looks([sender(wait, sent=CONFIRMED, n=n) for n, wait in enumerate(waits)])
    found = asked(replace(SOURCE, looks=moving), target(IDLE))
    assert (found.verdict, found.explained) == (Stage.UNKNOWN, False)


def test_a_gathering_that_takes_too_long_is_none() -> None:
    """A burst that should have come is asked after on the target."""
    late = replace(SOURCE, flush_interval_s=900.0, lag=replace(LAG, lag_seconds=1000.0))
    assert asked(late, target(WAITING, blocked=[Blocked(WAITING, None, [BLOCKER])])).verdict is (
        Stage.TARGET_LOCK
    )


def test_a_busy_pipeline_that_keeps_up() -> None:
    """What was written when we began to look is confirmed: nothing is behind."""
    found = asked(replace(SOURCE, looks=looks([sender()] * 2, confirmed=WRITTEN)))
    assert (found.behind, found.verdict) == (False, Stage.NONE)
    assert "written 1.0 s ago is confirmed" in found.findings[0].seen


REMARKS: dict[str, tuple[SourceFacts, Stage, str]] = {
    "gets less": (
        replace(SOURCE, looks=looks([sender(n=n) for n in range(3)], confirmed=Lsn(850 * MB))),
        Stage.PACE,
        "25 MB/s are confirmed, 0 B/s are written: level in about 2.0 s",
    ),
    "the budget is nearly used up": (
        replace(SOURCE, lag=replace(LAG, safe_wal_bytes=20 * MB)),
        Stage.SLOT,
        "83% of what the source keeps for it: lost after 20 MB more",
    ),
    "something is queued": (
        replace(SOURCE, spooled=Spooled(CONFIRMED, 2 * MB, 3)),
        Stage.SPOOL,
        "2 MB in 3 transactions are queued",
    ),
    "a prepared transaction": (
        replace(SOURCE, prepared=[("gid", 60.0), ("other", 1.0)]),
        Stage.SOURCE_TRANSACTION,
        "2 prepared transactions on the source, the oldest, gid, for 1 min",
    ),
    "a transaction that holds WAL": (
        replace(SOURCE, writers=[BLOCKER], lag=replace(LAG, retained_wal_bytes=150 * MB)),
        Stage.SOURCE_TRANSACTION,
        "the slot retains 50 MB for it",
    ),
}


@pytest.mark.parametrize("name", REMARKS)
def test_remarks(name: str) -> None:
    """What else an operator should know stands behind the verdict."""
    source, stage, part = REMARKS[name]
    found = asked(source, target(IDLE))
    assert found.verdict is Stage.DAEMON
    (said,) = seen(found, stage)
    assert part in said


def test_quarantine_is_a_remark() -> None:
    """Changes in quarantine are behind, whatever the lag says."""
    found = asked(SOURCE, replace(target(BUSY), quarantined=3))
    assert "3 changes wait in quarantine" in seen(found, Stage.QUARANTINE)[0]


SHORT: dict[str, Callable[[], SourceFacts]] = {
    "a short transaction": lambda: replace(SOURCE, writers=[replace(BLOCKER, transaction_s=1)]),
    "a calm budget": lambda: replace(SOURCE, lag=replace(LAG, safe_wal_bytes=500 * MB)),
}


@pytest.mark.parametrize("name", SHORT)
def test_what_is_usual_is_no_remark(name: str) -> None:
    """A remark a run would be read by nobody."""
    assert len(asked(SHORT[name](), target(IDLE)).findings) == 1

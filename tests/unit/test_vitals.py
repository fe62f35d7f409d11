"""What a daemon tells of itself: a lag that does not lie, and who hangs."""

import pytest

from cdc.awake import Wakefulness
from cdc.lsn import Lsn
from cdc.progress import CopyProgress, Progress
from cdc.vitals import SLOW_HEARTBEAT_S, Phase, Vitals

NOW_US = 1_000_000_000
NOW_S = 5_000.0
LIMIT_S = 60.0


def vitals() -> Vitals:
    """Give those of a daemon that streams and has nothing to do."""
    made = Vitals("cdc_credit", Wakefulness(), phase=Phase.STREAMING)
    made.progress = Progress(Lsn(100), Lsn(100), Lsn(100), heard_at_s=NOW_S)
    made.wal.look(0, Lsn(100), 0, None)
    made.heartbeat.arrived = True
    return made


def lag_s(of: Vitals) -> float | None:
    """Give the lag now."""
    return of.lag_s(NOW_US, NOW_S)


def progress_of(of: Vitals) -> Progress:
    """Give the progress that there is."""
    assert of.progress is not None
    return of.progress


def test_caught_up_is_no_lag() -> None:
    """However long ago the last commit was."""
    of = vitals()
    progress_of(of).commit_time = 1
    assert (lag_s(of), of.lag_bytes) == (0.0, 0)


def test_the_oldest_commit_that_is_missing() -> None:
    """The lag is its age, though younger ones came behind it."""
    of = vitals()
    progress_of(of).begin(NOW_US - 3_000_000)
    progress_of(of).begin(NOW_US - 1_000_000)
    assert lag_s(of) == 3.0


def test_what_was_applied_meanwhile() -> None:
    """The oldest that is missing is no older than the newest that is there."""
    of = vitals()
    progress_of(of).begin(NOW_US - 9_000_000)
    progress_of(of).commit_time = NOW_US - 2_000_000
    assert lag_s(of) == 2.0


def test_a_source_whose_clock_is_ahead() -> None:
    """A commit from the future is no negative lag."""
    of = vitals()
    progress_of(of).begin(NOW_US + 5_000_000)
    assert lag_s(of) == 0.0


def test_a_stream_that_has_just_begun() -> None:
    """Until its first heartbeat has arrived, nobody knows what the source has still to send."""
    of = vitals()
    of.heartbeat.forget()
    assert lag_s(of) is None
    progress_of(of).begin(NOW_US - 3_000_000)
    assert lag_s(of) == 3.0


def test_what_the_source_has_not_sent_yet() -> None:
    """A heartbeat that is late is lag, though nothing has come that is not applied."""
    of = vitals()
    of.heartbeat.send(NOW_S - SLOW_HEARTBEAT_S - 1)
    assert lag_s(of) == SLOW_HEARTBEAT_S + 1
    of = vitals()
    of.heartbeat.send(NOW_S - SLOW_HEARTBEAT_S)
    assert lag_s(of) == 0.0


@pytest.mark.parametrize("phase", sorted(set(Phase) - {Phase.STREAMING, Phase.SPOOLING}))
def test_without_a_stream_nobody_knows(phase: Phase) -> None:
    """Unknown is not nought."""
    of = vitals()
    of.phase = phase
    assert lag_s(of) is None


def test_what_is_queued_on_disk_is_as_old_as_its_first_commit() -> None:
    """Unknown before that was looked at; once it is read again, the oldest not applied counts."""
    of = vitals()
    of.phase = Phase.SPOOLING
    progress = progress_of(of)
    progress.spooled_transactions, progress.spooled_after = 3, Lsn(40)
    assert (lag_s(of), of.lag_bytes) == (None, 60)
    progress.spooled_since = NOW_US - 9_000_000
    assert (lag_s(of), of.lag_bytes) == (9.0, 60)
    progress.replaying = Progress(Lsn(40), Lsn(50), Lsn(40))
    assert lag_s(of) == 9.0
    progress.replaying.commit_time = NOW_US - 6_000_000
    assert lag_s(of) == 6.0
    progress.replaying.begin(NOW_US - 4_000_000)
    assert (lag_s(of), of.lag_bytes) == (4.0, 50)


def test_wal_of_others_is_no_lag() -> None:
    """All that came is accounted for, though the checkpoint stands far behind."""
    of = vitals()
    of.wal.look(1, Lsn(500), 0, None)
    progress_of(of).receive(Lsn(500))
    assert of.lag_bytes == 0


# Who hangs


def test_a_stream_that_brings_nothing() -> None:
    """Each status update asks for an answer: silence is no idleness."""
    of = vitals()
    assert of.hangs(NOW_S + LIMIT_S, LIMIT_S) is None
    assert "stream" in (of.hangs(NOW_S + LIMIT_S + 1, LIMIT_S) or "")


def test_an_applier_that_gets_no_answer() -> None:
    """It hangs; a byte that moves, or a batch that is done, and it does not."""
    of = vitals()
    progress_of(of).asking_since_s = NOW_S
    of.target.begin(NOW_S)
    late = NOW_S + LIMIT_S + 1
    assert "applier" in (of.hangs(late, LIMIT_S) or "")
    of.target.note(late - 1)
    assert of.hangs(late, LIMIT_S) is None


def test_the_reader_of_an_applier_that_works() -> None:
    """While a batch is applied the stream may stand: memory is bounded."""
    of = vitals()
    progress_of(of).asking_since_s = NOW_S
    late = NOW_S + LIMIT_S + 1
    of.target.begin(late)
    assert of.hangs(late, LIMIT_S) is None


def test_an_applier_of_what_was_queued_on_disk() -> None:
    """It is the one who reads the spool."""
    of = vitals()
    progress_of(of).replaying = Progress(Lsn(1), Lsn(1), Lsn(1), asking_since_s=NOW_S)
    assert "applier" in (of.hangs(NOW_S + LIMIT_S + 1, LIMIT_S) or "")


def test_an_applier_that_has_just_begun() -> None:
    """However long ago the target was asked before."""
    of = vitals()
    late = NOW_S + LIMIT_S + 1
    progress_of(of).asking_since_s = late
    assert of.hangs(late, LIMIT_S) is None


def test_an_applier_beside_a_copy() -> None:
    """Where the stream stands still for a copy it has nothing in hand: else it is as any other."""
    of = vitals()
    of.copy = CopyProgress(tables=2, tables_done=1)
    progress_of(of).asking_since_s = NOW_S
    assert "applier" in (of.hangs(NOW_S + LIMIT_S + 1, LIMIT_S) or "")


def test_a_stream_that_is_read_again() -> None:
    """Its silence until then was ours."""
    of = vitals()
    late = NOW_S + LIMIT_S + 1
    progress_of(of).held_back = True
    progress_of(of).read_on(late)
    assert of.hangs(late, LIMIT_S) is None
    assert "stream" in (of.hangs(late + LIMIT_S + 1, LIMIT_S) or "")


@pytest.mark.parametrize("why", ["held back", "no stream", "no stream yet"])
def test_who_waits_on_purpose_does_not_hang(why: str) -> None:
    """For the next burst, for a copy, for a side that is away, for the slot."""
    of = vitals()
    match why:
        case "held back":
            progress_of(of).held_back = True
        case "no stream":
            of.phase = Phase.WAITING
        case _:
            of.progress = None
    assert of.hangs(NOW_S + 1e6, LIMIT_S) is None

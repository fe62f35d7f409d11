"""What the health check says, from what the daemon remembers."""

from collections.abc import Callable

import orjson
import pytest

from cdc.lsn import Lsn
from cdc.observe.health import STALLED_S, Side, SyncStatus, assess
from cdc.progress import CopyProgress, Progress
from cdc.vitals import Phase, Vitals
from tests.unit.daemon import END, MAX_LAG_S, NOW, caught_up, committed, fall_behind, later


def test_an_idle_pipeline_is_in_sync() -> None:
    """Nothing is missing: no lag, in seconds as in bytes, though the last commit is long ago."""
    health = assess(caught_up(), NOW, MAX_LAG_S)
    assert (health.sync_status, health.lag_s, health.lag_bytes) == (SyncStatus.IN_SYNC, 0.0, 0)
    assert (health.supabase, health.neon, health.ready) == (Side.HEALTHY, Side.HEALTHY, True)
    assert (health.checkpoint, health.checkpoint_time) == (
        "0/2000",
        "2027-01-15T06:00:00.000+00:00",
    )


def test_a_target_left_alone_is_asleep_and_in_sync() -> None:
    """Nobody asks it for that: what was not asked for six minutes may be suspended."""
    health = assess(caught_up(), later(300), MAX_LAG_S)
    assert (health.neon, health.sync_status, health.lag_s) == (Side.ASLEEP, SyncStatus.IN_SYNC, 0)


def test_sides_that_were_not_asked_are_unknown() -> None:
    """A daemon that begins knows nothing of either."""
    vitals = caught_up()
    vitals.source_answers = vitals.target.answers = None
    health = assess(vitals, NOW, MAX_LAG_S)
    assert (health.supabase, health.neon) == (Side.UNKNOWN, Side.UNKNOWN)


def _within_limit(vitals: Vitals) -> None:
    fall_behind(vitals, 59)


def _lagging(vitals: Vitals) -> None:
    fall_behind(vitals, 61)
    vitals.counts.applied_at_s = NOW.at_s - 1


def _backlog(vitals: Vitals) -> None:
    fall_behind(vitals, 7200)
    vitals.counts.applied_at_s, vitals.streamed_at_s = 0.0, NOW.at_s - 2


def _nothing_comes_on(vitals: Vitals) -> None:
    fall_behind(vitals, STALLED_S + 1)
    vitals.counts.applied_at_s = NOW.at_s - STALLED_S - 1


def _target_away(vitals: Vitals) -> None:
    _lagging(vitals)
    vitals.target.answers = False


def _no_stream(vitals: Vitals) -> None:
    vitals.phase, vitals.source_answers = Phase.WAITING, False


def _standby(vitals: Vitals) -> None:
    vitals.phase = Phase.STANDBY


def _copying(vitals: Vitals) -> None:
    fall_behind(vitals, 600)
    vitals.copy = CopyProgress(tables=3, tables_done=1)


def _halted(vitals: Vitals) -> None:
    vitals.phase, vitals.problem = Phase.HALTED, "the slot is lost"


def _spooled(vitals: Vitals) -> None:
    vitals.phase, vitals.target.answers = Phase.SPOOLING, False
    assert vitals.progress is not None
    vitals.progress.spooled_transactions = 5
    vitals.progress.spooled_after = END


def _replayed(vitals: Vitals) -> None:
    _spooled(vitals)
    vitals.target.answers = True
    vitals.counts.applied_at_s = NOW.at_s - 1
    assert vitals.progress is not None
    vitals.progress.replaying = Progress(END, END, END)
    vitals.progress.replaying.begin(committed(90))


def _replay_begins(vitals: Vitals) -> None:
    _spooled(vitals)
    vitals.target.answers = True
    vitals.streamed_at_s = NOW.at_s - 10


@pytest.mark.parametrize(
    ("happens", "status", "lag_s"),
    [
        (_within_limit, SyncStatus.IN_SYNC, 59),
        (_lagging, SyncStatus.LAGGING, 61),
        (_backlog, SyncStatus.LAGGING, 7200),
        (_nothing_comes_on, SyncStatus.STALLED, 61),
        (_target_away, SyncStatus.STALLED, 61),
        (_no_stream, SyncStatus.STALLED, None),
        (_standby, SyncStatus.STALLED, None),
        (_copying, SyncStatus.SNAPSHOT, 600),
        (_halted, SyncStatus.HALTED, None),
        (_spooled, SyncStatus.STALLED, None),
        (_replayed, SyncStatus.LAGGING, 90),
        (_replay_begins, SyncStatus.LAGGING, None),
    ],
)
def test_each_status(
    happens: Callable[[Vitals], None], status: SyncStatus, lag_s: float | None
) -> None:
    """Each status has its reasons; lag is told where it is known, and else not at all."""
    vitals = caught_up()
    happens(vitals)
    health = assess(vitals, NOW, MAX_LAG_S)
    assert (health.sync_status, health.lag_s) == (status, lag_s)
    assert health.ready == (status is SyncStatus.IN_SYNC)


def test_who_is_behind_for_a_moment_is_not_stalled_by_a_rest_before() -> None:
    """That nothing was applied for hours does not count while there was nothing to apply."""
    vitals = caught_up()
    vitals.counts.applied_at_s = NOW.at_s - 7200
    vitals.streamed_at_s = NOW.at_s - 9000
    fall_behind(vitals, 3)
    assert assess(vitals, NOW, max_lag_s=2).sync_status is SyncStatus.LAGGING


def test_what_the_source_has_not_sent_is_lag_too() -> None:
    """Nothing has come, but the heartbeat has been under way for two minutes: so has the rest."""
    vitals = caught_up()
    vitals.heartbeat.send(NOW.at_s - 120)
    health = assess(vitals, NOW, MAX_LAG_S)
    assert (health.lag_s, health.ready) == (120, False)


def test_a_heartbeat_that_is_fast_is_no_lag() -> None:
    """It is under way for a moment each time; that moment is not shown as lag."""
    vitals = caught_up()
    vitals.heartbeat.send(NOW.at_s - 1)
    assert assess(vitals, NOW, MAX_LAG_S).lag_s == 0


def test_a_source_whose_clock_is_ahead_makes_no_negative_lag() -> None:
    """A commit of the future is as new as can be."""
    vitals = caught_up()
    fall_behind(vitals, -30)
    assert assess(vitals, NOW, MAX_LAG_S).lag_s == 0


def test_it_says_who_hangs() -> None:
    """A batch that the target has not answered for ten minutes is the problem told."""
    vitals = caught_up()
    fall_behind(vitals, 600).asking_since_s = NOW.at_s - 700
    vitals.counts.applied_at_s = vitals.streamed_at_s = NOW.at_s - 700
    health = assess(vitals, later(600), MAX_LAG_S)
    assert health.problem == "the target has not answered the applier for 660 s"


def test_the_answer_is_the_contract_s() -> None:
    """The JSON has these names, and null where a thing is not known."""
    vitals = caught_up()
    assert orjson.loads(assess(vitals, NOW, MAX_LAG_S).as_json()) == {
        "supabase": "healthy",
        "neon": "healthy",
        "syncStatus": "in_sync",
        "lagSeconds": 0.0,
        "lagBytes": 0,
        "checkpoint": "0/2000",
        "checkpointTime": "2027-01-15T06:00:00.000+00:00",
        "problem": None,
    }
    vitals.progress = None
    told = orjson.loads(assess(vitals, NOW, MAX_LAG_S).as_json())
    assert (told["lagSeconds"], told["lagBytes"], told["checkpoint"]) == (None, None, None)


def test_bytes_behind_are_of_what_is_on_the_target() -> None:
    """What is queued on the daemon's disk is behind, though it was confirmed to the source."""
    vitals = caught_up()
    progress = vitals.progress
    assert progress is not None
    progress.apply(Lsn(END + 0x500))
    progress.spooled_after = END
    vitals.wal.look(NOW.at_s, Lsn(END + 0x500), 0, None)
    assert assess(vitals, NOW, MAX_LAG_S).lag_bytes == 0x500

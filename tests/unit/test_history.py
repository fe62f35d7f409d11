"""The last hour of a daemon, as the status page draws it."""

from cdc.counts import Operations, Tally
from cdc.observe.history import INTERVAL_S, History
from cdc.vitals import Phase
from tests.unit.daemon import NOW, caught_up, committed, fall_behind, later


def test_nothing_was_looked_at_yet() -> None:
    """Without a sample there is no rate, and no beginning."""
    history = History()
    assert (list(history), history.changes_per_s, history.since_unix_s) == ([], 0.0, None)


def test_an_idle_pipeline_is_not_behind() -> None:
    """However long nothing was committed, each sample says nought."""
    vitals, history = caught_up(), History()
    for n in range(5):
        history.look(vitals, later(n * 1000))
    assert [(s.lag_s, s.lag_bytes, s.changes_per_s) for s in history] == [(0.0, 0, 0.0)] * 5


def test_the_rate_is_of_the_time_between_two_looks() -> None:
    """Changes that were applied since the last look, a second; none were before the first."""
    vitals, history = caught_up(), History()
    vitals.counts.changes = 1000
    history.look(vitals, NOW)
    tally = Tally(received=Operations(insert=30, update=20))
    vitals.counts.apply([(("credit", "a"), tally)], committed(0), NOW.at_s, replayed=False)
    history.look(vitals, later(5))
    history.look(vitals, later(10))
    assert [s.changes_per_s for s in history] == [0.0, 10.0, 0.0]


def test_a_clock_that_stands_still_gives_no_rate() -> None:
    """Two looks at one moment are no division by nought."""
    vitals, history = caught_up(), History()
    history.look(vitals, NOW)
    vitals.counts.changes = 10
    history.look(vitals, NOW)
    assert history.changes_per_s == 0.0


def test_lag_grows_until_the_target_has_it() -> None:
    """A transaction that waits is older at each look; once it is applied, nothing is behind."""
    vitals, history = caught_up(), History()
    progress = fall_behind(vitals, 0)
    for seconds in (0, 5, 10):
        history.look(vitals, later(seconds))
    progress.apply(progress.received)
    progress.unapplied = False
    history.look(vitals, later(15))
    assert [(s.lag_s, s.lag_bytes) for s in history] == [
        (0, 0x100),
        (5, 0x100),
        (10, 0x100),
        (0, 0),
    ]


def test_what_is_not_known_is_no_nought() -> None:
    """Without a stream the lag is unknown, though the last one was not behind."""
    vitals, history = caught_up(), History()
    vitals.phase = Phase.WAITING
    history.look(vitals, NOW)
    assert [s.lag_s for s in history] == [None]


def test_an_hour_is_kept() -> None:
    """The oldest sample goes when it is an hour old; when the daemon started stays known."""
    vitals, history = caught_up(), History()
    for n in range(1000):
        history.look(vitals, later(n * INTERVAL_S))
    samples = list(history)
    assert len(samples) == 720
    assert samples[-1].unix_s - samples[0].unix_s == 719 * INTERVAL_S
    assert history.since_unix_s == NOW.unix_s

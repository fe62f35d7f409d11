"""How much WAL the source may still write before the slot is lost."""

import pytest

from cdc.budget import Level, WalBudget
from cdc.lsn import Lsn

MB = 1 << 20


def test_a_source_without_limit_has_no_budget() -> None:
    """Nothing is used up, and nothing runs out."""
    budget = WalBudget()
    assert not budget.look(0, Lsn(0), 10 * MB, None)
    assert not budget.look(30, Lsn(10 * MB), 20 * MB, None)
    assert (budget.used, budget.seconds_left, budget.level) == (None, None, Level.CALM)


@pytest.mark.parametrize(
    ("retained", "safe", "used", "level"),
    [
        (0, 100, 0.0, Level.CALM),
        (49, 51, 0.49, Level.CALM),
        (50, 50, 0.5, Level.WARNING),
        (79, 21, 0.79, Level.WARNING),
        (80, 20, 0.8, Level.ALARM),
        (100, 0, 1.0, Level.ALARM),
        (120, -20, 1.0, Level.ALARM),
    ],
)
def test_warned_at_half_and_alarmed_at_four_fifths(
    retained: int, safe: int, used: float, level: Level
) -> None:
    """The share is what is retained of what may be."""
    budget = WalBudget()
    assert budget.look(0, Lsn(0), retained * MB, safe * MB) == (level > Level.CALM)
    assert budget.used == pytest.approx(used)
    assert budget.level is level


def test_each_crossing_is_told_once() -> None:
    """Not again while it stays there; again after it was calm in between."""
    budget = WalBudget()
    told = [
        budget.look(n * 30, Lsn(n), retained * MB, (100 - retained) * MB)
        for n, retained in enumerate((10, 60, 70, 85, 90, 60, 85, 10, 55))
    ]
    assert told == [False, True, False, True, False, False, True, False, True]


def test_the_time_left_follows_from_the_rate_seen() -> None:
    """A steady megabyte a second, and ninety are left."""
    budget = WalBudget()
    budget.look(0, Lsn(0), 0, 100 * MB)
    assert budget.seconds_left is None
    budget.look(10, Lsn(10 * MB), 10 * MB, 90 * MB)
    assert budget.rate == pytest.approx(MB)
    assert budget.seconds_left == pytest.approx(90)


def test_a_burst_is_no_trend() -> None:
    """The rate is smoothed: one look at ten times the rate counts less than half."""
    budget = WalBudget()
    for second in (0, 10, 20, 30):
        budget.look(second, Lsn(second * MB), second * MB, (1000 - second) * MB)
    budget.look(40, Lsn(130 * MB), 130 * MB, 870 * MB)
    assert budget.rate == pytest.approx(4.54 * MB, rel=0.01)
    budget.look(50, Lsn(130 * MB), 130 * MB, 870 * MB)
    assert budget.rate is not None
    assert budget.rate < 3 * MB


def test_a_source_that_writes_nothing_never_runs_out() -> None:
    """No rate, no time."""
    budget = WalBudget()
    budget.look(0, Lsn(5), MB, 9 * MB)
    budget.look(30, Lsn(5), MB, 9 * MB)
    assert budget.rate == 0
    assert budget.seconds_left is None

"""When somebody is told of a condition: it begins, lasts, gets worse, ends, comes back."""

from dataclasses import dataclass, replace

import pytest

from cdc.observe.alerts import CALM_S, LONGEST_CALM_S, REMIND_S, Watch
from cdc.observe.conditions import (
    AWAY_S,
    HANGING,
    LAGGING,
    TARGET_AWAY,
    WAL_BUDGET,
    Condition,
    Found,
    Kind,
    Severity,
)

HOUR = 3600
LAGS = Condition(LAGGING, Severity.WARNING, "301 s behind")
NOTHING = Found(())


@dataclass(frozen=True, slots=True)
class Course:
    """When a condition holds, and what is told of it."""

    holds: list[tuple[float, float]]
    """From one second to another, without that one."""
    told: list[tuple[float, str]]
    kind: Kind = LAGGING
    unknown: tuple[float, float] = (0, 0)
    step_s: int = 1


COURSES = {
    "it never holds": Course([], []),
    "it begins, lasts and ends": Course([(10, 50)], [(10, "firing"), (49 + CALM_S, "resolved")]),
    "one second is enough": Course([(10, 11)], [(10, "firing"), (10 + CALM_S, "resolved")]),
    "it comes and goes within the calm": Course(
        [(10, 20), (50, 60), (100, 110)], [(10, "firing"), (109 + CALM_S, "resolved")]
    ),
    "it comes back after its end": Course(
        [(10, 20), (100, 110)],
        [(10, "firing"), (79, "resolved"), (100, "firing"), (109 + 2 * CALM_S, "resolved")],
    ),
    "it comes back long after its end": Course(
        [(10, 20), (79 + HOUR, 80 + HOUR)],
        [(10, "firing"), (79, "resolved"), (79 + HOUR, "firing"), (139 + HOUR, "resolved")],
    ),
    "it lasts for a day": Course(
        [(0, 24 * HOUR)],
        [
            *((hour * HOUR, "firing") for hour in (0, 4, 8, 12, 16, 20)),
            (24 * HOUR - 10 + CALM_S, "resolved"),
        ],
        step_s=10,
    ),
    "nobody knows for an hour whether it has ended": Course(
        [(10, 20)], [(10, "firing"), (HOUR - 1 + CALM_S, "resolved")], unknown=(20, HOUR)
    ),
    "what mends itself in time": Course([(10, 10 + AWAY_S)], [], TARGET_AWAY),
    "what does not": Course(
        [(10, 11 + AWAY_S)],
        [(10 + AWAY_S, "firing"), (10 + AWAY_S + CALM_S, "resolved")],
        TARGET_AWAY,
    ),
    "what is well for a moment, again and again": Course(
        [(0, 50), (51, 100), (101, 140)], [(AWAY_S, "firing"), (199, "resolved")], TARGET_AWAY
    ),
    "what fails for a moment now and then": Course(
        [(0, 5), (100, 105), (200, 205)], [], TARGET_AWAY
    ),
}


@pytest.mark.parametrize("name", COURSES)
def test_when_it_is_told(name: str) -> None:
    """Once when it begins, after a while again, once when it has ended; once a look at most."""
    course = COURSES[name]
    condition = replace(LAGS, kind=course.kind)
    watch, told = Watch(), []
    last = int(max([end for _, end in course.holds] + [course.unknown[1]], default=0))
    for second in range(0, last + 2 * HOUR, course.step_s):
        holds = any(begin <= second < end for begin, end in course.holds)
        is_unknown = course.unknown[0] <= second < course.unknown[1]
        unknown = frozenset({course.kind}) if is_unknown else frozenset()
        for alert in watch.see(Found((condition,) if holds else (), unknown), second):
            told.append((second, alert.status.value))  # noqa: PERF401
    assert told == course.told


@pytest.mark.parametrize("period_s", [1, 30, CALM_S - 1, CALM_S + 1, 3 * CALM_S, HOUR // 4])
def test_what_flaps_does_not_flood(period_s: float) -> None:
    """However fast it comes and goes, a day of it costs few messages: two an hour in the end."""
    watch, told = Watch(), []
    for second in range(24 * HOUR):
        holds = second % (2 * period_s) < period_s
        told += watch.see(Found((LAGS,)) if holds else NOTHING, second)
    assert len(told) <= 20
    last_hours = watch.see(NOTHING, 24 * HOUR + LONGEST_CALM_S)
    assert [alert.status for alert in last_hours] == ["resolved"]


SEVERITIES = {
    "it rises": ([1, 1, 2, 2], [1, 2]),
    "it falls": ([2, 1, 1], [2]),
    "it falls and rises": ([1, 2, 1, 2, 1, 2], [1, 2]),
}


@pytest.mark.parametrize("name", SEVERITIES)
def test_a_severity_that_rises_is_told(name: str) -> None:
    """At once, and no second time in the same episode."""
    seen, told = SEVERITIES[name]
    watch = Watch()
    alerts = [
        alert
        for second, severity in enumerate(seen)
        for alert in watch.see(Found((Condition(WAL_BUDGET, Severity(severity)),)), second)
    ]
    assert [alert.condition.severity for alert in alerts] == told


def test_an_episode_has_one_incident_and_each_alert_an_id() -> None:
    """First word, reminder and end belong together; the next episode is another incident."""
    watch = Watch()
    held = Found((LAGS,))
    alerts = [
        *watch.see(held, 0),
        *watch.see(held, REMIND_S),
        *watch.see(NOTHING, REMIND_S + CALM_S),
        *watch.see(held, REMIND_S + CALM_S + 1),
    ]
    assert [alert.status for alert in alerts] == ["firing", "firing", "resolved", "firing"]
    assert [alert.lasted_s for alert in alerts] == [0, REMIND_S, REMIND_S, 0]
    assert len({alert.incident for alert in alerts[:3]}) == 1
    assert alerts[3].incident != alerts[0].incident
    assert len({alert.id for alert in alerts}) == 4


def test_conditions_are_told_apart() -> None:
    """Two at once are two alerts, and each ends by itself."""
    watch = Watch()
    away = Condition(HANGING, Severity.CRITICAL)
    told = watch.see(Found((LAGS, away)), 0) + watch.see(Found((away,)), CALM_S)
    assert [(alert.condition.kind.name, alert.status.value) for alert in told] == [
        ("lagging", "firing"),
        ("hanging", "firing"),
        ("lagging", "resolved"),
    ]

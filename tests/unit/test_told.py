"""What a receiver was told outlives the process: a halt that repeats itself is told once."""

from dataclasses import replace
from pathlib import Path

import pytest

from cdc.observe.alerts import CALM_S, REMIND_S, Watch
from cdc.observe.conditions import HALTED, Condition, Found, Severity
from cdc.observe.now import Now
from cdc.observe.told import Told

NOW = Now(10_000.0, 1_800_000_000.0)
NOTHING = Found(())
ENDED = Condition(HALTED, Severity.CRITICAL, "slot x is gone", "run `cdc init`")


OF_ANOTHER_VERSION = (
    b'{"halted": {"incident": "a", "alerts": 1, "severity": 9, "detail": "x",'
    b' "began_unix_s": 1.0, "told_unix_s": 1.0}}'
)


def restarted(path: Path, now: Now) -> Watch:
    """A watch of a process that begins now."""
    return Watch(Told(path, "cdc_credit").load(now))


def tell(path: Path, watch: Watch, found: Found, now: Now) -> list[str]:
    """Have what is due arrive, and give what it was."""
    told = Told(path, "cdc_credit")
    told.load(now)
    alerts = watch.see(found, now.at_s)
    for alert in alerts:
        told.note(alert, now)
    return [f"{alert.status} {alert.condition.detail}" for alert in alerts]


def later(seconds: float) -> Now:
    """A moment on a machine that was started anew: only its calendar goes on."""
    return Now(5.0, NOW.unix_s + seconds)


def test_a_halt_that_repeats_itself_is_told_once(tmp_path: Path) -> None:
    """A supervisor that starts it anyway causes no flood; a reminder comes in its time."""
    halted = Found((ENDED,))
    said = [
        tell(tmp_path, restarted(tmp_path, now), halted, now)
        for now in (NOW, later(10), later(REMIND_S - 1), later(REMIND_S), later(REMIND_S + 9))
    ]
    assert said == [["firing slot x is gone"], [], [], ["firing slot x is gone"], []]


def test_a_halt_by_something_else_is_told(tmp_path: Path) -> None:
    """What ends the next process is another problem."""
    other = Found((replace(ENDED, detail="the target refuses a change"),))
    tell(tmp_path, restarted(tmp_path, NOW), Found((ENDED,)), NOW)
    said = tell(tmp_path, restarted(tmp_path, later(10)), other, later(10))
    assert said == ["firing the target refuses a change"]


def test_a_halt_is_resolved_by_the_next_process(tmp_path: Path) -> None:
    """Once that has streamed for a while; the incident is the same, over a restart of all."""
    first = Told(tmp_path, "cdc_credit")
    (alert,) = Watch().see(Found((ENDED,)), NOW.at_s)
    first.note(alert, NOW)
    watch, unknown = restarted(tmp_path, later(100)), Found((), frozenset({HALTED}))
    assert watch.see(unknown, 5 + 10 * CALM_S) == []
    (resolved,) = watch.see(NOTHING, 5 + 11 * CALM_S)
    assert (resolved.status, resolved.incident) == ("resolved", alert.incident)
    assert resolved.id != alert.id
    second = Told(tmp_path, "cdc_credit")
    second.load(later(200))
    second.note(resolved, later(200))
    assert Told(tmp_path, "cdc_credit").load(later(300)) == ()


def test_what_has_not_arrived_is_told_again(tmp_path: Path) -> None:
    """Only what the receiver has got is remembered."""
    (lost,) = restarted(tmp_path, NOW).see(Found((ENDED,)), NOW.at_s)
    (again,) = restarted(tmp_path, later(9)).see(Found((ENDED,)), 5)
    assert lost.incident != again.incident


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"halted": {"incident": 7}}', OF_ANOTHER_VERSION]
)
def test_a_broken_file_costs_an_alert_twice(tmp_path: Path, content: bytes) -> None:
    """It is never a reason not to start."""
    (tmp_path / "cdc_credit.alerts").write_bytes(content)
    assert restarted(tmp_path, NOW).see(Found((ENDED,)), NOW.at_s)


def test_a_directory_that_cannot_be_written_to(tmp_path: Path) -> None:
    """It is never a reason not to alert."""
    (tmp_path / "file").touch()
    told = Told(tmp_path / "file", "cdc_credit")
    (alert,) = Watch(told.load(NOW)).see(Found((ENDED,)), NOW.at_s)
    told.note(alert, NOW)

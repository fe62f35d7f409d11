"""The units that verify each week: what systemd makes of them, and that they fit the daemon's."""

import re
from datetime import date
from itertools import pairwise
from pathlib import Path

import pytest
from typer.main import get_command

from cdc.cli import app
from cdc.errors import NeedsOperator, Unavailable
from tests.ops.test_systemd import FOLDER, analyze, directives, needs_systemd

SERVICES = ("cdc-verify.service", "cdc-verify@.service")
TIMERS = ("cdc-verify.timer", "cdc-verify@.timer")

every_service = pytest.mark.parametrize("unit", SERVICES)
every_timer = pytest.mark.parametrize("unit", TIMERS)

# What keeps the daemon in, from here on to the end.
HARDENING = re.compile(r"^NoNewPrivileges=.*?(?=^\[Install\]|\Z)", re.MULTILINE | re.DOTALL)


def copied(unit: str, folder: Path) -> Path:
    """Give a service with a program that this machine has; one with an instance as an instance."""
    text = (FOLDER / unit).read_text().replace("/opt/cdc/bin/cdc ", "/bin/true ")
    copy = folder / unit.replace("@", "@billing")
    copy.write_text(text)
    return copy


def hours(time: str) -> float:
    """Give a time of systemd's in hours."""
    number, unit = re.fullmatch(r"(\d+)(min|h|d)", time).groups()  # type: ignore[union-attr]
    return float(number) * {"min": 1 / 60, "h": 1, "d": 24}[unit]


@needs_systemd
@every_service
def test_systemd_verifies_the_service(unit: str, tmp_path: Path) -> None:
    """Without a word: it exits 0 on a directive that it does not know."""
    verified = analyze("verify", "--man=no", copied(unit, tmp_path))
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")


@needs_systemd
@every_timer
def test_systemd_verifies_the_timer(unit: str, tmp_path: Path) -> None:
    """Without a word; the service that it starts is the one of its name."""
    assert "Unit" not in directives(unit)
    copied(unit.replace(".timer", ".service"), tmp_path)
    verified = analyze("verify", "--man=no", copied(unit, tmp_path))
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")


@needs_systemd
@every_service
def test_the_service_is_exposed_little(unit: str, tmp_path: Path) -> None:
    """1.5 or better, of 10."""
    rated = analyze("security", "--offline=true", "--threshold=15", copied(unit, tmp_path))
    assert rated.returncode == 0, rated.stdout


@every_service
def test_the_service_is_kept_in_as_the_daemon_is(unit: str) -> None:
    """By the same directives, each of them."""
    ours, daemons = ((FOLDER / name).read_text() for name in (unit, unit.replace("-verify", "")))
    assert HARDENING.findall(ours)[0].strip() == HARDENING.findall(daemons)[0].strip()
    names = ("DynamicUser", "UMask", "MemoryMax", "LimitNOFILE", "LimitCORE")
    assert [directives(unit)[name] for name in names] == [
        directives(unit.replace("-verify", ""))[name] for name in names
    ]


@every_service
def test_the_service_verifies_what_the_daemon_copies(unit: str) -> None:
    """By the same file and the same DSNs, once; the daemon's files stay the daemon's."""
    ours, daemons = directives(unit), directives(unit.replace("-verify", ""))
    assert ours["ExecStart"] == [line.replace(" run", " verify") for line in daemons["ExecStart"]]
    assert "verify" in getattr(get_command(app), "commands")  # noqa: B009  # click's, untyped
    credentials = daemons["LoadCredentialEncrypted"]
    assert ours["LoadCredentialEncrypted"] == [one for one in credentials if ".dsn:" in one]
    assert ours["Type"] == ["oneshot"]
    assert "StateDirectory" not in ours
    assert unit.replace("-verify", "").replace("@", "@%i") in ours["After"][0].split()


@every_service
def test_the_service_tries_again_where_that_may_help(unit: str) -> None:
    """After 75, not where rows differ, and a few times: all fit into the time that is counted."""
    said = directives(unit)
    assert said["Restart"] == ["on-failure"]
    last = {"1", "2", str(NeedsOperator.exit_code), "SIGTERM"}
    assert set(said["RestartPreventExitStatus"][0].split()) == last
    assert str(Unavailable.exit_code) not in last
    tries = int(said["StartLimitBurst"][0])
    assert 1 < tries < 10
    assert tries * hours(said["RestartSec"][0]) < hours(said["StartLimitIntervalSec"][0])


@needs_systemd
@every_timer
def test_the_timer_runs_each_week(unit: str) -> None:
    """Not all at the same minute, and made up for: no two are as far apart as the alert allows."""
    said = directives(unit)
    (calendar,) = said["OnCalendar"]
    shown = analyze("calendar", "--iterations=3", calendar).stdout
    found = re.findall(r"(?:Next elapse|Iter\. #\d): \w+ (\S+)", shown)
    days = [date.fromisoformat(day) for day in found]
    assert [(later - earlier).days for earlier, later in pairwise(days)] == [7, 7], shown
    assert said["Persistent"] == ["true"]
    assert 1 <= hours(said["RandomizedDelaySec"][0]) < 24
    assert said["WantedBy"] == ["timers.target"]

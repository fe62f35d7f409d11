"""The units of systemd/: systemd finds nothing wrong with them, and they say what the code does."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.main import get_command

from cdc.cli import app
from cdc.errors import NeedsOperator
from cdc.observe.alerting import STOP_GRACE_S
from cdc.observe.telemetry import _FLUSH_S
from cdc.reload import NEEDS_RESTART
from cdc.settings import _SECRETS, load_settings
from cdc.sync.pipeline import FINISH_S, STOP_S
from tests.servers import CHECKOUT

FOLDER = CHECKOUT / "systemd"
UNITS = ("cdc.service", "cdc@.service")
DRILLS = ("cdc-failover-drill.service", "cdc-failover-drill@.service")
TIMERS = tuple(unit.replace(".service", ".timer") for unit in DRILLS)
EXAMPLE = FOLDER / "cdc.toml"

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="no systemd-analyze (apt install systemd)"
)

every_unit = pytest.mark.parametrize("unit", UNITS)
every_service = pytest.mark.parametrize("unit", [*UNITS, *DRILLS])


def directives(unit: str) -> dict[str, list[str]]:
    """Give what a unit says, in order."""
    found: dict[str, list[str]] = {}
    for line in (FOLDER / unit).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


@pytest.fixture
def copied(unit: str, tmp_path: Path) -> Path:
    """The unit with a program that this machine has; one with an instance as an instance."""
    text = (FOLDER / unit).read_text()
    assert "ExecStart=/opt/cdc/bin/cdc " in text
    copy = tmp_path / unit.replace("@", "@billing")
    copy.write_text(text.replace("/opt/cdc/bin/cdc ", "/bin/true "))
    return copy


def analyze(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze, which needs no systemd that runs."""
    return subprocess.run(
        ["systemd-analyze", *map(str, arguments)], capture_output=True, check=False, text=True
    )


@needs_systemd
@every_service
def test_systemd_verifies_the_unit(copied: Path) -> None:
    """Without a word: it exits 0 on a directive that it does not know."""
    verified = analyze("verify", "--man=no", copied)
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")


@needs_systemd
@every_service
def test_the_unit_is_exposed_little(copied: Path) -> None:
    """1.5 or better, of 10."""
    rated = analyze("security", "--offline=true", "--threshold=15", copied)
    assert rated.returncode == 0, rated.stdout


@every_unit
def test_the_unit_runs_a_command_that_there_is(unit: str) -> None:
    """With a file of settings, as its last word a verb."""
    (started,) = directives(unit)["ExecStart"]
    program, option, config, verb = started.split()
    assert (program, option) == ("/opt/cdc/bin/cdc", "--config")
    assert config == ("/etc/cdc/%i.toml" if "@" in unit else "/etc/cdc/cdc.toml")
    assert verb in getattr(get_command(app), "commands")  # noqa: B009  # click's, untyped


@every_service
def test_the_unit_loads_the_secrets_by_their_names(unit: str) -> None:
    """All of them and no other, each from a place of the pipeline's own."""
    place = "cdc@%i" if "@" in unit else "cdc"
    names = [f"{section}.{name}" for section, name in _SECRETS]
    loaded = directives(unit)["LoadCredentialEncrypted"]
    assert loaded == [f"{name}:{place}.{name}" for name in names]


@every_unit
def test_the_unit_leaves_alone_what_needs_an_operator(unit: str) -> None:
    """And begins anew after any other end, however often."""
    said = directives(unit)
    assert said["RestartPreventExitStatus"] == [str(NeedsOperator.exit_code)]
    assert (said["Restart"], said["StartLimitIntervalSec"]) == (["always"], ["0"])


@every_unit
def test_the_unit_waits_for_the_daemon(unit: str) -> None:
    """For one that stops, longer than it takes; for one that stands by, for ever."""
    said = directives(unit)
    assert int(said["TimeoutStopSec"][0]) > 2 * (STOP_S + FINISH_S + STOP_GRACE_S + _FLUSH_S)
    assert said["TimeoutStartSec"] == ["infinity"]
    assert (said["Type"], said["ExecReload"]) == (["notify"], ["/bin/kill -HUP $MAINPID"])


def test_the_units_differ_in_what_is_the_pipelines_own() -> None:
    """In nothing else: what is changed in one is changed in both."""
    one, each = (directives(unit) for unit in UNITS)
    own = {"Description", "ExecStart", "LoadCredentialEncrypted", "EnvironmentFile", "User"}
    assert {name for name in one | each if one.get(name) != each.get(name)} == (
        own | {"StateDirectory"}
    )


@pytest.mark.parametrize(("drill", "unit"), list(zip(DRILLS, UNITS, strict=True)), ids=DRILLS)
def test_the_drill_is_what_the_daemon_is(drill: str, unit: str) -> None:
    """The same user, state, secrets and hardening, and none of what makes a daemon."""
    ours, daemons = directives(drill), directives(unit)
    of_its_own = {"Description", "Type", "ExecStart", "TimeoutStartSec", "MemoryMax"}
    assert {name for name in ours if ours[name] != daemons.get(name)} == of_its_own
    hardening = {name for name in daemons if name.startswith(("Protect", "Private", "Restrict"))}
    kinds = {"CapabilityBoundingSet", "NoNewPrivileges", "SystemCallFilter", "DynamicUser", "User"}
    assert hardening - {"RestartPreventExitStatus"} | kinds <= ours.keys()
    (started,) = ours["ExecStart"]
    assert started == daemons["ExecStart"][0].removesuffix("run") + "failover drill"


@needs_systemd
@pytest.mark.parametrize("timer", TIMERS)
def test_the_drill_is_monthly(timer: str, tmp_path: Path) -> None:
    """Systemd finds nothing wrong with its timer, beside the service that it starts."""
    for name in (timer, timer.replace(".timer", ".service")):
        text = (FOLDER / name).read_text().replace("/opt/cdc/bin/cdc ", "/bin/true ")
        (tmp_path / name.replace("@", "@billing")).write_text(text)
    verified = analyze("verify", "--man=no", tmp_path / timer.replace("@", "@billing"))
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")
    said = directives(timer)
    assert (said["OnCalendar"], said["Persistent"]) == (["monthly"], ["true"])


def test_all_units_are_installed() -> None:
    """By install.sh, as its patterns are."""
    script = (FOLDER / "install.sh").read_text()
    patterns = re.findall(r'"\$folder"?/([\w@.*-]+)"?', script)
    installed = {path.name for pattern in patterns for path in FOLDER.glob(pattern)}
    assert installed >= {*UNITS, *DRILLS, *TIMERS}


def test_the_example_says_what_is_so_anyway(tmp_path: Path) -> None:
    """Each of its values is the default, and what it proposes is understood."""
    assert load_settings(EXAMPLE).settings == load_settings().settings
    proposed = tmp_path / "cdc.toml"
    proposed.write_text(EXAMPLE.read_text().replace('# [tables."', '[tables."'))
    text = re.sub("^# (deletes|truncate) = ", r"\1 = ", proposed.read_text(), flags=re.MULTILINE)
    proposed.write_text(text)
    (table,) = load_settings(proposed).settings.tables.values()
    assert (table.deletes, table.truncate) == ("soft", "ignore")


def test_the_example_says_what_needs_a_restart() -> None:
    """Of what it has."""
    section, marked = "", set()
    for line in EXAMPLE.read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif "needs a restart" in line and not line.startswith("#"):
            marked.add(f"{section}.{line.split()[0]}")
    assert marked == {"source.slot", "http.listen"}
    assert marked < NEEDS_RESTART


def test_the_instructions_say_what_needs_a_restart() -> None:
    """All of it."""
    (line,) = [
        line
        for line in (FOLDER / "README.md").read_text().splitlines()
        if line.startswith("| `systemctl restart")
    ]
    assert set(re.findall(r"`(\w+\.\w+)`", line)) == NEEDS_RESTART


def test_the_installation_is_sound_shell() -> None:
    """As far as sh and, where it is there, shellcheck can tell."""
    script = FOLDER / "install.sh"
    subprocess.run(["sh", "-n", script], check=True)
    if shutil.which("shellcheck") is None:
        pytest.skip("no shellcheck (apt install shellcheck)")
    subprocess.run(["shellcheck", script], check=True)

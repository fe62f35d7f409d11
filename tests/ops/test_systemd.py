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
EXAMPLE = FOLDER / "cdc.toml"

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="no systemd-analyze (apt install systemd)"
)

every_unit = pytest.mark.parametrize("unit", UNITS)


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
@every_unit
def test_systemd_verifies_the_unit(copied: Path) -> None:
    """Without a word: it exits 0 on a directive that it does not know."""
    verified = analyze("verify", "--man=no", copied)
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")


@needs_systemd
@every_unit
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


@every_unit
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
    own = {"Description", "ExecStart", "LoadCredentialEncrypted", "EnvironmentFile"}
    assert {name for name in one | each if one.get(name) != each.get(name)} == (
        own | {"StateDirectory"}
    )


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

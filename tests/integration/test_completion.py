"""What TAB offers in bash, by the script that `cdc --install-completion` installs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.process import environment, run_cdc

# What readline sets before it calls the function, and what it takes from it.
TAB = """
. "$HOME/.bash_completions/cdc.sh"
COMP_WORDS=({words} "{last}") COMP_CWORD={index}
_cdc_completion cdc
printf '%s\\n' "${{COMPREPLY[@]}}"
complete -p cdc >&2
"""

OFFERED = {
    "cdc la": ["lag"],
    "cdc slot ": ["create", "drop", "list"],
    "cdc explain ": ["lag"],
    "cdc lag --max": ["--max-bytes", "--max-seconds"],
    "cdc --conf": ["--config"],
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a home directory in which the completion is installed."""
    folder = tmp_path_factory.mktemp("home")
    # Not the last command: bash would become it, and it would look for a shell above itself.
    bash("cdc --install-completion >&2; exit $?", folder)
    return folder


@pytest.mark.parametrize("line", OFFERED)
def test_verbs_and_options(home: Path, line: str) -> None:
    """Verbs, those below them, and options are offered as far as they are typed."""
    assert press_tab(home, line) == OFFERED[line]


def test_tables_of_the_settings(home: Path, tmp_path: Path) -> None:
    """Tables come from the settings, wherever these are named, and with no database at hand."""
    file = tmp_path / "cdc.toml"
    file.write_text('[tables."credit.offers"]\ndeletes = "soft"\n[tables."other.t"]\n')
    named = {"CDC_CONFIG": str(file), "CDC_SOURCE_DSN": "host=127.0.0.1 port=1"}
    assert press_tab(home, "cdc resync ", named) == ["credit.offers", "other.t"]
    assert press_tab(home, "cdc resync cr", named) == ["credit.offers"]
    assert press_tab(home, f"cdc --config {file} resync o") == ["other.t"]


def test_settings_that_cannot_be_read(home: Path, tmp_path: Path) -> None:
    """Then there is nothing to offer, and nothing is said in the middle of somebody's line."""
    assert press_tab(home, "cdc resync ", {"CDC_CONFIG": str(tmp_path / "missing.toml")}) == []
    assert press_tab(home, "cdc resync ", {"CDC_APPLY_MAX_ROWS": "many"}) == []


def test_the_command_has_one_name() -> None:
    """However it is started it is `cdc`: in its help, and for the completion."""
    assert "Usage: cdc [OPTIONS] COMMAND" in run_cdc(None, "--help").stdout


def press_tab(home: Path, line: str, env: dict[str, str] | None = None) -> list[str]:
    """Give what bash would offer at the end of a line, in order."""
    *words, last = line.split(" ")
    script = TAB.format(words=" ".join(words), last=last, index=len(words))
    result = bash(script, home, env)
    assert result.stderr == "complete -o default -F _cdc_completion cdc\n"
    return sorted(filter(None, result.stdout.splitlines()))


def bash(
    script: str, home: Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a script in bash, as somebody whose home is there."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        ["bash", "--norc", "-c", script],
        env=environment(None, env) | {"PATH": path, "HOME": str(home)},
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )

"""Credentials that cannot be read: the command says which one and why, and exits 78."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.process import scrubbed_environment

SECRET = "postgresql://cdc:hunter2@db.example/credit"

# To root permissions are nothing, but by these.
UNBOUND = "-dac_override,-dac_read_search"


def show(credentials: Path) -> subprocess.CompletedProcess[str]:
    """Run `cdc config show`, bound by permissions even as root."""
    command = [sys.executable, "-m", "cdc", "config", "show"]
    if os.getuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("as root: no setpriv (apt install util-linux)")
        command = ["setpriv", f"--bounding-set={UNBOUND}", "--", *command]
    env = scrubbed_environment() | {"CREDENTIALS_DIRECTORY": str(credentials)}
    return subprocess.run(command, env=env, capture_output=True, check=False, text=True)


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    """A folder with both DSNs."""
    for side in ("source", "target"):
        (tmp_path / f"{side}.dsn").write_text(SECRET)
    return tmp_path


def test_credentials_that_can_be_read(credentials: Path) -> None:
    """Else the others would prove nothing."""
    shown = show(credentials)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("credentials") == 2


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_file_that_may_not_be_read(credentials: Path, side: str) -> None:
    """The message names the file, the reason, and the directive that it came by."""
    file = credentials / f"{side}.dsn"
    file.chmod(0o000)
    shown = show(credentials)
    assert shown.returncode == 78
    assert f"cannot read the credential {file}: Permission denied" in shown.stderr
    assert f"LoadCredential={side}.dsn" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_a_folder_that_may_not_be_entered(credentials: Path) -> None:
    """It is not as if there were no credentials."""
    credentials.chmod(0o600)
    shown = show(credentials)
    credentials.chmod(0o700)
    assert shown.returncode == 78
    assert f"cannot read the credential {credentials}/source.dsn" in shown.stderr


def test_a_folder_in_place_of_a_file(credentials: Path) -> None:
    """Its name is said too."""
    (credentials / "http.token").mkdir()
    shown = show(credentials)
    assert shown.returncode == 78
    assert f"cannot read the credential {credentials}/http.token" in shown.stderr
    assert "LoadCredential=http.token" in shown.stderr

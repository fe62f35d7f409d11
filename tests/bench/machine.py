"""The machine that measures."""

import os
import platform
import subprocess
from datetime import UTC, datetime

from tests.bench.figures import Machine
from tests.servers import CHECKOUT, Role, find_installation, missing


def this_machine(majors: dict[Role, int]) -> Machine:
    """Describe it, and the servers that are used."""
    return Machine(
        cpus=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        python=platform.python_version(),
        source=_version("source", majors),
        target=_version("target", majors),
        revision=_revision(),
        began_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _version(role: Role, majors: dict[Role, int]) -> str:
    """Give the version of the server that serves a role."""
    installation = find_installation(majors[role], role)
    if installation is None:
        raise SystemExit(missing(majors[role]))
    return installation.version


def _revision() -> str:
    """Give the commit, and whether something else was measured."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=CHECKOUT,
        capture_output=True,
        check=False,
        text=True,
    )
    return described.stdout.strip() or "unknown"

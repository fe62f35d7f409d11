"""A disk of one megabyte: a tmpfs, mounted for a test. Only root may; others skip."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True, slots=True)
class Disk:
    """Where it is mounted."""

    path: Path

    @property
    def free(self) -> int:
        """Bytes that are left."""
        return shutil.disk_usage(self.path).free

    def grow(self) -> None:
        """Make it as large as anybody needs."""
        _mount("remount,size=64m", self.path)


@contextmanager
def tiny_disk(path: Path, owner: Path | None = None) -> Iterator[Disk]:
    """Mount a disk at a path; it belongs to whoever owns the `owner`."""
    path.mkdir(parents=True, exist_ok=True)
    options = "size=1m,mode=0700"
    if owner is not None:
        # The servers' account has to reach it.
        for parent in path.parents:
            if parent.stat().st_mode & 0o001 == 0 and parent.is_relative_to(path.parents[-2]):
                parent.chmod(parent.stat().st_mode | 0o011)
        options += f",uid={owner.stat().st_uid},gid={owner.stat().st_gid}"
    mounted = _mount(options, path)
    if mounted.returncode:
        pytest.skip(f"no disk of our own to fill: {mounted.stderr.strip()}")
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def _mount(options: str, path: Path) -> subprocess.CompletedProcess[str]:
    if os.geteuid() != 0:
        pytest.skip("no disk of our own to fill: only root may mount one")
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
    return subprocess.run(command, capture_output=True, check=False, text=True)

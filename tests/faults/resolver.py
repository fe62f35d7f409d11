"""A resolver that is asked and never answers: a process of its own looks names up there.

It takes a name server's port, and another /etc/resolv.conf for one process: both take root; others
skip.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SILENT = "127.0.0.77"

# Runs in place of `python -m cdc`.
_COMMAND = """
import ctypes, runpy, subprocess
CLONE_NEWNS = 0x00020000
assert ctypes.CDLL(None).unshare(CLONE_NEWNS) == 0
subprocess.run(["mount", "--make-rprivate", "/"], check=True)
subprocess.run(["mount", "--bind", {file!r}, "/etc/resolv.conf"], check=True)
runpy.run_module("cdc", run_name="__main__")
"""


@contextmanager
def silent_resolver(folder: Path) -> Iterator[tuple[socket.socket, str]]:
    """Give who is asked and does not answer, and the script of a command that asks there."""
    if os.geteuid() != 0:
        pytest.skip("no resolver of our own: only root may have one")
    file = folder / "resolv.conf"
    file.write_text(f"nameserver {SILENT}\noptions timeout:20 attempts:2\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((SILENT, 53))
        silent.settimeout(60)
        yield silent, _COMMAND.format(file=str(file))

"""The commands of a page of documentation, run as they stand there.

A block that is to be run says of which kind it is, behind `sh`; blocks of one kind are one script.
"""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from cdc.demo.installation import find_embedded
from tests.pair import Pair
from tests.process import environment
from tests.servers import CHECKOUT

BLOCK = re.compile(r"^ *```sh ([\w ]+)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)

# A line with this names a database that is nobody's.
PLACEHOLDER = "PASSWORD"


def run_blocks(
    page: str, kind: str, pair: Pair, folder: Path, env: Mapping[str, str] | None = None
) -> str:
    """Run a page's blocks of a kind in one shell, and give what they print."""
    result = _run(f"set -euo pipefail\n{_lines(page, kind)}", pair, folder, env)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def run_typed(page: str, kind: str, word: str, pair: Pair, folder: Path) -> int:
    """Run those blocks of a kind that have a word, as typed into a shell; give how they end."""
    return _run(_lines(page, kind, word), pair, folder, None).returncode


def _lines(page: str, kind: str, word: str = "") -> str:
    found = BLOCK.findall((CHECKOUT / page).read_text())
    texts = [text for name, text in found if name == kind and word in text]
    assert texts, f"{page} has no {kind}"
    lines = [line.strip() for text in texts for line in text.splitlines()]
    return "\n".join(line for line in lines if PLACEHOLDER not in line)


def _run(
    script: str, pair: Pair, folder: Path, env: Mapping[str, str] | None
) -> subprocess.CompletedProcess[str]:
    programs = (Path(sys.executable).parent, find_embedded().bin_dir)
    path = os.pathsep.join([*map(str, programs), os.environ["PATH"]])
    return subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=environment(pair, env) | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

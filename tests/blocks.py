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
    found = BLOCK.findall((CHECKOUT / page).read_text())
    lines = [line.strip() for name, text in found if name == kind for line in text.splitlines()]
    assert lines, f"{page} has no {kind}"
    programs = (Path(sys.executable).parent, find_embedded().bin_dir)
    path = os.pathsep.join([*map(str, programs), os.environ["PATH"]])
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(n for n in lines if PLACEHOLDER not in n)],
        cwd=folder,
        env=environment(pair, env) | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout

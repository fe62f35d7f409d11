"""Each command of the README does what it says, in the order in which it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import psycopg

from cdc.demo.installation import find_embedded
from cdc.demo.workload import load
from tests.pair import Pair, same_rows
from tests.process import environment
from tests.servers import CHECKOUT

BLOCK = re.compile(r"^ *```sh (\w+)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def test_the_first_deployment(pair: Pair, tmp_path: Path) -> None:
    """From two databases, one empty, to a copy that is equal and watched; then a new copy."""
    with psycopg.connect(pair.source_dsn, autocommit=True) as source:
        source.execute((CHECKOUT / "sql/credit/001_add_credit_schema.sql").read_bytes())
    load(pair.source_dsn, 300)
    run_blocks("deployment", pair, tmp_path)
    assert same_rows(pair)["offers"] > 0
    run_blocks("recopy", pair, tmp_path)
    run_blocks("resync", pair, tmp_path)
    assert same_rows(pair)["offers"] > 0
    run_blocks("quarantine", pair, tmp_path)


def run_blocks(kind: str, pair: Pair, folder: Path) -> None:
    """Run the README's blocks of a kind in one shell, but for the lines that name databases."""
    blocks = [
        text for found, text in BLOCK.findall((CHECKOUT / "README.md").read_text()) if found == kind
    ]
    assert blocks
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    script = "\n".join(line for line in lines if not line.startswith("export CDC_"))
    programs = (Path(sys.executable).parent, find_embedded().bin_dir)
    path = os.pathsep.join([*map(str, programs), os.environ["PATH"]])
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment(pair) | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr

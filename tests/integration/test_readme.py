"""Each command of the README does what it says, in the order in which it stands there."""

from pathlib import Path

import psycopg

from cdc.demo.workload import load
from tests.blocks import run_blocks
from tests.pair import Pair, same_rows
from tests.servers import CHECKOUT


def test_the_first_deployment(pair: Pair, tmp_path: Path) -> None:
    """From two databases, one empty, to a copy that is equal and watched; then a new copy."""
    with psycopg.connect(pair.source_dsn, autocommit=True) as source:
        source.execute((CHECKOUT / "sql/credit/001_add_credit_schema.sql").read_bytes())
    load(pair.source_dsn, 300)
    run_blocks("README.md", "deployment", pair, tmp_path)
    assert same_rows(pair)["offers"] > 0
    run_blocks("docs/sizing.md", "look", pair, tmp_path)
    run_blocks("README.md", "recopy", pair, tmp_path)
    run_blocks("README.md", "resync", pair, tmp_path)
    assert same_rows(pair)["offers"] > 0
    run_blocks("README.md", "quarantine", pair, tmp_path)

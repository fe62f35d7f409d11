"""The failovers of README and docs/operating.md: their commands do what they say, and back."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.blocks import run_blocks
from tests.databases import fetch, run_sql
from tests.failing_over import Bank, copied_bank, definitions
from tests.pair import Pair, drop_database, execute, same_rows
from tests.process import drain
from tests.servers import SOURCE_ROLE

PAGE = "docs/operating.md"

MORE = "insert into credit.account (bank) select 'two' from generate_series(1, 5) returning id"
CHANGE = "update credit.bank set code = 'renamed' where code = 'one'"


def test_the_readme(pair: Pair, tmp_path: Path) -> None:
    """Its three commands, one after the other, beside a source that is up."""
    bank = copied_bank(pair)
    said = run_blocks("README.md", "failover", pair, tmp_path)
    assert "ok: the target could take over" in said
    assert "ok: it would have taken" in said
    assert "promoted in" in said
    assert definitions(pair.target_admin_dsn) == bank.before


@pytest.fixture
def both_ways(pair: Pair) -> Iterator[Bank]:
    """A pair that is copied, of which each side may be the source: logical WAL, REPLICATION."""
    name = f"{pair.slot}_neon"
    execute(pair.source, f"create database {name} owner {SOURCE_ROLE}")
    try:
        yield copied_bank(
            replace(
                pair,
                target=pair.source,
                target_dsn=pair.source.conninfo(name, SOURCE_ROLE),
                target_admin_dsn=pair.source.conninfo(name),
            )
        )
    finally:
        drop_database(pair.source, name)


def test_there_and_back(both_ways: Bank, tmp_path: Path) -> None:
    """Applications go on at Neon, and later at Supabase: no row is lost, no key is taken."""
    bank, pair = both_ways, both_ways.pair
    on_source = definitions(pair.source_admin_dsn)
    run_blocks(PAGE, "failover ready", pair, tmp_path)
    run_blocks(PAGE, "failover", pair, tmp_path)
    assert definitions(pair.target_admin_dsn) == bank.before
    assert fetch(pair.target_dsn, MORE) == [21, 22, 23, 24, 25]
    run_sql(pair.target_dsn, CHANGE)

    run_blocks(PAGE, "back copy", pair, tmp_path)
    assert fetch(pair.target_dsn, MORE) == [26, 27, 28, 29, 30]
    run_blocks(PAGE, "back switch", pair, tmp_path)
    assert same_rows(pair)["account"] == 30
    assert definitions(pair.source_admin_dsn) == on_source
    run_blocks(PAGE, "back again", pair, tmp_path)

    assert fetch(pair.source_dsn, MORE) == [31, 32, 33, 34, 35]
    run_sql(pair.source_dsn, "delete from credit.bank where code = 'renamed'")
    drain(pair)
    assert same_rows(pair)["account"] == 15
    slots = "select slot_name::text from pg_replication_slots where database = any(%s)"
    assert fetch(pair.source_dsn, slots, [pair.slot, f"{pair.slot}_neon"]) == [pair.slot]

"""docs/upgrade.md: its commands do what it says, on servers and bookkeeping of two versions."""

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cdc.demo.installation import find_embedded
from cdc.demo.workload import load
from cdc.lsn import parse_lsn
from tests.accounts import INSERT, SCHEMA
from tests.blocks import run_blocks
from tests.databases import checkpoint, confirmed, fetch, migrate, run_sql, wait_until
from tests.pair import Pair, make_pair, same_rows
from tests.process import drain, ok, run_cdc, scrubbed_environment, streaming
from tests.servers import SessionServers, Versions

PAGE = "docs/upgrade.md"

MORE = (
    "insert into credit.businesses (registration_number, legal_name, country)"
    " values ('after the upgrade', 'one', 'DE')"
)

COPIED = "select sum(rows)::int from cdc.copy where slot = %s"

# What is asked of functions that every version has.
DEFINED = "select xmin::text || prosrc from pg_proc where oid = 'cdc.expect'::regproc"
OTHER_VERSION = """
create or replace function cdc.expect(actual bigint, expected bigint) returns void
language plpgsql as $$ begin raise exception 'of another version'; end $$;
comment on schema cdc is 'Bookkeeping of cdc, of another version';
"""


@pytest.fixture
def tiny(pair: Pair) -> Pair:
    """Two databases with one table."""
    migrate(pair, SCHEMA)
    return pair


@pytest.fixture
def newer(servers: SessionServers, tmp_path: Path) -> Iterator[Pair]:
    """Two empty databases on 18: whatever is upgraded ends there."""
    with make_pair(servers, Versions(18, 18), tmp_path / "newer", credit=False) as made:
        yield made


@pytest.fixture
def old_source(credit_pair: Pair) -> Pair:
    """A pair with rows, copied, whose source is of 15."""
    load(credit_pair.source_dsn, 200)
    ok(credit_pair, "init")
    return credit_pair


from_15 = pytest.mark.parametrize("versions", [Versions(15, 18)], indirect=True, ids=str)


def upgrade_source(old: Pair, newer: Pair) -> Pair:
    """Move the source's database to another server, without slots; give the pair as it is then."""
    bin_dir = find_embedded().bin_dir
    dumped = subprocess.run(
        [bin_dir / "pg_dump", old.source_admin_dsn],
        env=scrubbed_environment(),
        capture_output=True,
        check=True,
    )
    subprocess.run(
        [bin_dir / "psql", "--no-psqlrc", "--set=ON_ERROR_STOP=1", newer.source_admin_dsn],
        env=scrubbed_environment(),
        input=dumped.stdout,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return replace(
        old,
        source=newer.source,
        source_dsn=newer.source_dsn,
        source_admin_dsn=newer.source_admin_dsn,
    )


@from_15
def test_the_source_is_upgraded_while_applications_stand_still(
    old_source: Pair, newer: Pair, tmp_path: Path
) -> None:
    """The target takes over as it is: no row is copied again, and the stream goes on."""
    run_blocks(PAGE, "source before", old_source, tmp_path)
    pair = upgrade_source(old_source, newer)
    result = run_cdc(pair, "run", "--until-current")
    assert result.returncode == 78, result.stderr
    run_blocks(PAGE, "source after", pair, tmp_path)
    run_sql(pair.source_dsn, MORE)
    drain(pair)
    assert fetch(pair.target_dsn, COPIED, pair.slot) == [0]
    assert same_rows(pair)["offers"] > 0
    ok(pair, "resync")
    drain(pair)
    assert same_rows(pair)["offers"] > 0


@from_15
def test_the_source_is_upgraded_under_applications(old_source: Pair, newer: Pair) -> None:
    """The daemon makes a new slot and copies everything anew, if that was asked for."""
    drain(old_source)
    pair = upgrade_source(old_source, newer)
    run_sql(pair.source_dsn, MORE)
    env = {"CDC_SOURCE_ON_SLOT_LOST": "resync"}
    result = run_cdc(pair, "run", "--until-current", env=env)
    assert result.returncode == 0, result.stderr
    assert same_rows(pair)["offers"] > 0


def test_another_target_is_filled_beside_the_first(
    credit_pair: Pair, newer: Pair, tmp_path: Path
) -> None:
    """A second daemon, with a slot of its own, copies to a new target; the first goes on."""
    load(credit_pair.source_dsn, 200)
    drain(credit_pair)
    env = {"NEW_TARGET_DSN": newer.target_dsn}
    run_blocks(PAGE, "target", credit_pair, tmp_path, env)
    new = replace(credit_pair, target=newer.target, target_admin_dsn=newer.target_admin_dsn)
    assert same_rows(new)["offers"] > 0
    run_sql(credit_pair.source_dsn, MORE)
    drain(credit_pair)
    assert same_rows(credit_pair)["offers"] > 0


def test_the_state_directory_moves_along(tiny: Pair, tmp_path: Path) -> None:
    """With its files another machine goes on; without them it says that it cannot tell.

    After a last run that came to its end, none are needed.
    """
    with streaming(tiny) as daemon:
        run_sql(tiny.source_dsn, INSERT, 1, 10)
        run_sql(tiny.source_dsn, "create table public.other as select generate_series(1, 1000)")
        wait_until(lambda: parse_lsn(confirmed(tiny)) > parse_lsn(checkpoint(tiny)))
        assert daemon.terminate() == 0
    run_sql(tiny.source_dsn, INSERT, 11, 20)
    without = run_cdc(tiny, "run", "--until-current", env={"CDC_STATE_DIR": str(tmp_path / "no")})
    assert without.returncode == 78, without.stderr
    run_blocks(PAGE, "move", tiny, tmp_path)
    assert same_rows(tiny) == {"account": 20}
    run_sql(tiny.source_dsn, "drop table public.other")
    run_blocks(PAGE, "last run", tiny, tmp_path)
    run_sql(tiny.source_dsn, INSERT, 21, 30)
    drain(replace(tiny, state_dir=tmp_path / "none"))
    assert same_rows(tiny) == {"account": 30}


def test_the_bookkeeping_of_another_version_is_brought_up_to_date(tiny: Pair) -> None:
    """At the first start of this version; a second start changes nothing."""
    ok(tiny, "init")
    (ours,) = fetch(tiny.target_dsn, "select obj_description('cdc'::regnamespace, 'pg_namespace')")
    run_sql(tiny.target_dsn, OTHER_VERSION)
    run_sql(tiny.source_dsn, INSERT, 1, 10)
    drain(tiny)
    (defined,) = fetch(tiny.target_dsn, DEFINED)
    assert "of another version" not in str(defined)
    assert fetch(
        tiny.target_dsn, "select obj_description('cdc'::regnamespace, 'pg_namespace')"
    ) == [ours]
    drain(tiny)
    assert fetch(tiny.target_dsn, DEFINED) == [defined]
    assert same_rows(tiny) == {"account": 10}

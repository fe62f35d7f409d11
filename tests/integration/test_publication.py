"""The publication: made where it is missing, used as it is where it is there, and missed."""

import subprocess
import sys

import pytest

from tests.databases import (
    copied,
    fetch,
    migrate,
    published,
    run_sql,
    schema_publication,
    wait_until,
)
from tests.pair import Pair, same_rows
from tests.process import drain, environment, ok, run_cdc
from tests.servers import Versions

SCHEMA = """
create schema credit;
create table credit.account (id int primary key, balance int not null);
"""
NEW_TABLE = "create table credit.entry (id int primary key, note text);"
ACTIVE = "select 1 from pg_replication_slots where active and slot_name = %s"


@pytest.fixture
def tiny(pair: Pair) -> Pair:
    """Two databases with one empty table."""
    migrate(pair, SCHEMA)
    return pair


def test_a_plain_owner_gets_a_list_of_tables(tiny: Pair) -> None:
    """Without superuser, `init` makes a publication of the tables that there are."""
    migrate(tiny, NEW_TABLE)
    ok(tiny, "init")
    assert published(tiny) == ["account", "entry"]
    assert fetch(tiny.source_dsn, "select from pg_publication_namespace") == []


def test_a_publication_of_schemas_is_used_as_it_is(tiny: Pair) -> None:
    """Made by an administrator, it is left alone, and tables made later are in it by themselves."""
    run_sql(tiny.source_admin_dsn, schema_publication(tiny))
    ok(tiny, "init")
    migrate(tiny, NEW_TABLE)
    run_sql(tiny.source_dsn, "insert into credit.entry values (1, 'streamed')")
    drain(tiny)
    assert same_rows(tiny) == {"account": 0, "entry": 1}
    assert fetch(
        tiny.source_dsn,
        "select pubname from pg_publication p, pg_roles r where r.oid = pubowner and rolsuper",
    ) == [tiny.publication]
    assert fetch(tiny.source_dsn, "select from pg_publication_rel") == []
    assert copied(tiny)[-1] == "1 rows: credit.entry"


@pytest.mark.parametrize("versions", [Versions(15, 15), Versions(18, 18)], indirect=True, ids=str)
def test_a_publication_dropped_while_streaming(tiny: Pair) -> None:
    """The daemon halts: what it does not receive any more must not be confirmed as copied.

    From PostgreSQL 18 on the server goes on without an error, and leaves the changes out.
    """
    ok(tiny, "init")
    watchful = (
        "import cdc.sync.lookout as l; l.LOOK_INTERVAL_S = l.TABLES_INTERVAL_S = 0.5;"
        "from cdc.cli import main; main()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", watchful, "run"],
        env=environment(tiny),
        stderr=subprocess.PIPE,
        text=True,
    ) as daemon:
        try:
            wait_until(lambda: bool(fetch(tiny.source_dsn, ACTIVE, tiny.slot)))
            run_sql(tiny.source_dsn, "insert into credit.account values (1, 1)")
            wait_until(lambda: bool(fetch(tiny.target_dsn, "select id from credit.account")))
            run_sql(tiny.source_dsn, f"drop publication {tiny.publication}")
            run_sql(tiny.source_dsn, "insert into credit.account values (2, 2)")
            _, said = daemon.communicate(timeout=10)
        finally:
            daemon.kill()
    assert daemon.returncode == 78
    assert tiny.publication in said
    assert run_cdc(tiny, "run", "--until-current").returncode == 78
    assert fetch(tiny.target_dsn, "select id from credit.account") == [1]


def test_part_of_a_table_is_published(tiny: Pair) -> None:
    """Snapshot and stream hold the published columns of the published rows, and no others."""
    table = "create table credit.entry (id int primary key, note text, hidden text default 'own');"
    migrate(tiny, table)
    write = "insert into credit.entry select n, 'x', 'secret' from generate_series(%s, %s) n"
    run_sql(tiny.source_dsn, write % (1, 10))
    run_sql(
        tiny.source_dsn,
        f"create publication {tiny.publication} for table credit.account,"
        " credit.entry (id, note) where (id % 2 = 0)",
    )
    ok(tiny, "init")
    part = "select id from credit.entry where note = 'x' and hidden = 'own' order by id"
    assert fetch(tiny.target_dsn, part) == [2, 4, 6, 8, 10]
    run_sql(tiny.source_dsn, write % (11, 14))
    # Out of the filter, and into it.
    run_sql(tiny.source_dsn, "update credit.entry set id = 21 where id = 2")
    run_sql(tiny.source_dsn, "update credit.entry set id = 22 where id = 1")
    run_sql(tiny.source_dsn, "update credit.entry set hidden = 'other' where id = 4")
    drain(tiny)
    assert fetch(tiny.target_dsn, part) == [4, 6, 8, 10, 12, 14, 22]
    assert fetch(tiny.target_dsn, "select id from credit.entry order by id") == fetch(
        tiny.target_dsn, part
    )


def test_a_publication_may_have_any_name(tiny: Pair) -> None:
    """Also one that the server's grammars have to be told of in different ways."""
    named = {"CDC_SOURCE_PUBLICATION": 'it\'s \\ "mine"'}
    assert run_cdc(tiny, "init", env=named).returncode == 0
    run_sql(tiny.source_dsn, "insert into credit.account values (1, 1)")
    result = run_cdc(tiny, "run", "--until-current", env=named)
    assert result.returncode == 0, result.stderr
    assert same_rows(tiny) == {"account": 1}

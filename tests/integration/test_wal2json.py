"""The commands with wal2json as output plugin: all that needs no publication."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from tests.databases import (
    confirmed,
    copied,
    fetch,
    migrate,
    run_sql,
    schema_publication,
    wait_until,
)
from tests.pair import Pair, make_pair, same_rows
from tests.preflight import WARNS, ask, broken, matching, the
from tests.process import drain, last_words, ok, run_cdc, slots, streaming
from tests.servers import SessionServers, Versions, require_wal2json

SCHEMA = """
create schema credit;
create table credit.account (id int primary key, balance numeric(20,4) not null);
"""
WAL2JSON = {"CDC_SOURCE_PLUGIN": "wal2json"}


@pytest.fixture
def tiny(servers: SessionServers, tmp_path: Path) -> Iterator[Pair]:
    """Two databases with one empty table; the source is of a version that has wal2json."""
    versions = Versions(15, 18)
    require_wal2json(servers.get("source", versions.source))
    with make_pair(servers, versions, tmp_path / "state", credit=False) as made:
        migrate(made, SCHEMA)
        yield replace(made, plugin="wal2json")


def test_no_publication_is_made(tiny: Pair) -> None:
    """`init` copies the tables of the schemas, and makes a slot that decodes with wal2json."""
    run_sql(tiny.source_dsn, "insert into credit.account values (1, 1.5000)")
    ok(tiny, "init")
    assert [slot["plugin"] for slot in slots(tiny)] == ["wal2json"]
    assert fetch(tiny.source_dsn, "select from pg_publication") == []
    run_sql(tiny.source_dsn, "update credit.account set balance = 2.0000")
    drain(tiny)
    assert same_rows(tiny) == {"account": 1}
    status = json.loads(ok(tiny, "status", "--json").stdout)
    assert (status["publication"], status["published_tables"]) == (None, 1)
    assert "none, 1 tables" in ok(tiny, "status").stdout


def test_a_slot_for_rows_that_the_target_has_already(tiny: Pair) -> None:
    """`slot create` and `init --no-snapshot`, as with the server's own plugin."""
    ok(tiny, "slot", "create")
    run_sql(tiny.source_dsn, "insert into credit.account values (1, 1)")
    ok(tiny, "init", "--no-snapshot")
    drain(tiny)
    assert same_rows(tiny) == {"account": 1}


def test_a_new_table_is_in_the_stream_from_its_first_row(tiny: Pair) -> None:
    """It is copied by itself, and no other schema's rows come along."""
    ok(tiny, "init")
    with streaming(tiny) as daemon:
        migrate(tiny, "create table credit.entry (id int primary key, note text)")
        run_sql(
            tiny.source_dsn,
            "insert into credit.entry values (1, 'streamed');"
            "create table public.other (id int); insert into public.other values (1);"
            "update public.other set id = 2",
        )
        wait_until(lambda: copied(tiny)[-1] == "1 rows: credit.entry")
        assert daemon.terminate() == 0
    assert same_rows(tiny) == {"account": 0, "entry": 1}


def test_lag_is_what_is_copied(tiny: Pair) -> None:
    """WAL of other schemas and foreign messages are not behind, a row of ours is."""
    ok(tiny, "init")
    run_sql(
        tiny.source_dsn,
        "create table public.other as select generate_series(1, 1000) id;"
        "select pg_logical_emit_message(true, 'somebody', 'else');"
        "select pg_logical_emit_message(true, 'cdc', 'barrier')",
    )
    assert json.loads(ok(tiny, "lag", "--json").stdout)["lag_bytes"] == 0
    run_sql(tiny.source_dsn, "insert into credit.account values (1, 1)")
    assert json.loads(ok(tiny, "lag", "--json").stdout)["lag_bytes"] > 0


@pytest.mark.parametrize(
    "statement", ["update credit.log set line = 'x'", "delete from credit.log where line = 'a'"]
)
def test_a_change_that_is_not_sent_ends_the_stream(tiny: Pair, statement: str) -> None:
    """Of a table without a replica identity: the error names it, nothing after it is confirmed."""
    ok(tiny, "init")
    # A role's own setting would keep the server's warning from us.
    run_sql(tiny.source_admin_dsn, "alter role app_source set client_min_messages = 'error'")
    try:
        with streaming(tiny) as daemon:
            migrate(tiny, "create table credit.log (line text)")
            run_sql(tiny.source_dsn, "insert into credit.log values ('a'), ('b')")
            wait_until(lambda: len(fetch(tiny.target_dsn, "select line from credit.log")) == 2)
            before = confirmed(tiny)
            run_sql(tiny.source_dsn, f"{statement}; insert into credit.account values (1, 1)")
            assert daemon.process.wait(20) == 78
            assert 'in table "credit"."log"' in last_words(daemon.log())
            assert "REPLICA IDENTITY FULL" in daemon.log()
    finally:
        run_sql(tiny.source_admin_dsn, "alter role app_source reset client_min_messages")
    assert fetch(tiny.target_dsn, "select from credit.account") == []
    assert confirmed(tiny) >= before
    result = run_cdc(tiny, "run", "--until-current")
    assert result.returncode == 78  # cdc check finds the table; and if not, the stream ends again
    assert "credit.log: has no replica identity" in result.stderr


def test_a_schema_and_its_types_may_have_any_name(tiny: Pair) -> None:
    """Also such that wal2json splits names at, or writes as what is no JSON."""
    names = ["My Schema", "a.b,c", "*", "it's"]
    for n, name in enumerate(names):
        migrate(
            tiny,
            f"create schema \"{name}\"; create type \"{name}\".mood as enum ('a', 'b');"
            f'create table "{name}".t{n} (id int primary key, m "{name}".mood,'
            f' ms "{name}".mood[], c "char", b bytea)',
        )
    schemas = {"CDC_SOURCE_SCHEMAS": json.dumps(["credit", *names])}
    assert run_cdc(tiny, "init", env=schemas).returncode == 0
    row = "1, 'a', '{a,b}', 'x', '\\x00'"
    for n, name in enumerate(names):
        run_sql(tiny.source_dsn, f'insert into "{name}".t{n} values ({row})')
        run_sql(tiny.source_dsn, f'insert into "{name}".t{n} values (2)')
        run_sql(tiny.source_dsn, f"update \"{name}\".t{n} set id = id + 10, m = 'b' where id = 1")
    result = run_cdc(tiny, "run", "--until-current", env=schemas)
    assert result.returncode == 0, result.stderr
    assert [same_rows(tiny, name) for name in names] == [{f"t{n}": 2} for n in range(4)]


def test_a_check_knows_what_wal2json_cannot_do(tiny: Pair) -> None:
    """Numbers that it sends as null are warned of; a pair that fits has nothing that breaks."""
    run_sql(tiny.source_admin_dsn, schema_publication(tiny))
    migrate(
        tiny,
        "create table credit.kinds (id int primary key, n numeric, r real, d double precision,"
        " i int, ns numeric[])",
    )
    found = ask(tiny, WAL2JSON)
    assert broken(found) == []
    special = "sends NaN and Infinity as null"
    assert {f.subject for f in found} == {
        *("credit.account.balance", "credit.kinds.n", "credit.kinds.r", "credit.kinds.d"),
    }
    the(found, (WARNS, "source", "credit.account.balance", "sends NaN as null"))
    assert all(matching(found, f"credit.kinds.{name}", special) for name in "nrd")


def test_numbers_that_json_has_no_word_for(tiny: Pair) -> None:
    """Null with 2.5, which the check warns of; what they are with a version that can say so."""
    migrate(tiny, "create table credit.kinds (id int primary key, n numeric, r real, d float8)")
    ok(tiny, "init")
    run_sql(tiny.source_dsn, "insert into credit.kinds values (1, 'NaN', 'Infinity', '-Infinity')")
    try:
        run_sql(
            tiny.source_dsn,
            "select pg_logical_slot_peek_changes(%s, null, 1, 'format-version', '2',"
            " 'numeric-data-types-as-string', 'true')",
            tiny.slot,
        )
        expected: list[object] = ["NaN", "Infinity", "-Infinity"]
    except psycopg.errors.InvalidParameterValue:
        expected = [None, None, None]
    drain(tiny)
    assert fetch(tiny.target_dsn, "select n::text, r::text, d::text from credit.kinds") == expected


def test_a_publication_that_limits_is_not_looked_at(tiny: Pair) -> None:
    """A filter that pgoutput would go by is a warning, and all rows are copied."""
    run_sql(
        tiny.source_admin_dsn,
        f"create publication {tiny.publication} for table credit.account where (id > 5)",
    )
    run_sql(tiny.source_dsn, "insert into credit.account values (1, 1)")
    expected = "leaves out changes: credit.account"
    the(ask(tiny, WAL2JSON), (WARNS, "source", f"publication {tiny.publication}", expected))
    ok(tiny, "init")
    run_sql(tiny.source_dsn, "insert into credit.account values (2, 1)")
    drain(tiny)
    assert same_rows(tiny) == {"account": 2}


def test_a_database_in_another_encoding(tiny: Pair) -> None:
    """wal2json sends texts as they are stored: only UTF8 is what the target expects."""
    name = f"{tiny.slot}_latin"
    run = f"create database {name} encoding 'LATIN1' locale 'C' template template0 owner app_source"
    with psycopg.connect(tiny.source.conninfo(), autocommit=True) as admin:
        admin.execute(run.encode())
        try:
            pair = replace(tiny, source_dsn=tiny.source.conninfo(name, "app_source"))
            run_sql(pair.source_dsn, SCHEMA)
            found = ask(pair, WAL2JSON)
            assert [f.subject for f in broken(found)] == [f"database {name}"]
            assert broken(ask(pair)) == []
        finally:
            admin.execute(f"drop database {name} with (force)".encode())

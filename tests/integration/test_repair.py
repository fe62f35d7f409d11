"""A row that the target lacks, though an Update brings only a part of it: read from the source."""

import psycopg
import pytest

from tests.databases import fetch, migrate, run_sql
from tests.pair import Pair, same_rows
from tests.process import drain, ok

TABLE = """
create schema credit;
create table credit.t ("the key" text, n int, body text, extra jsonb, primary key ("the key", n));
"""
BIG = "(select string_agg(md5(i::text), e'\\\\\\t') from generate_series(1, 500) i)"


def test_is_read_from_the_source(pair: Pair) -> None:
    """With its TOAST values, under the key that it has by then; the ledger says so."""
    prepare(pair)
    run_sql(pair.target_dsn, "delete from credit.t where n in (2, 3, 4)")
    with psycopg.connect(pair.source_dsn, autocommit=True) as source:
        source.execute("update credit.t set extra = null where n = 2")
        source.execute("""update credit.t set "the key" = e'it''s\\tnew' where n = 3""")
        source.execute("update credit.t set extra = '[]' where n = 4")
        source.execute("update credit.t set extra = '[1]' where n = 1")
    drain(pair)
    assert same_rows(pair) == {"t": 50}
    ledger = fetch(pair.target_dsn, "select detail from cdc.ledger where event = 'row repaired'")
    assert len(ledger) == 3
    assert all("credit.t: the target lacked a row, which was read" in str(d) for d in ledger)


def test_has_been_deleted_on_the_source_since(pair: Pair) -> None:
    """Then there is nothing to repair."""
    prepare(pair)
    run_sql(pair.target_dsn, "delete from credit.t where n = 2")
    run_sql(pair.source_dsn, "update credit.t set extra = null where n = 2")
    run_sql(pair.source_dsn, "delete from credit.t where n = 2")
    drain(pair)
    assert same_rows(pair) == {"t": 49}


def test_among_many_that_the_target_has(pair: Pair) -> None:
    """One of a batch that is written as a set is found, and the others go on."""
    prepare(pair)
    run_sql(pair.target_dsn, "delete from credit.t where n = 7")
    run_sql(pair.source_dsn, "update credit.t set extra = to_jsonb(n)")
    drain(pair)
    assert same_rows(pair) == {"t": 50}
    query = "select count(*) from cdc.ledger where event = 'row repaired'"
    assert fetch(pair.target_dsn, query) == [1]


@pytest.mark.parametrize(
    ("kind", "key"), [("public.ltree", "a.b"), ("public.citext", "MiXed"), ("credit.pair", "(1,x)")]
)
def test_is_found_by_a_key_of_any_type(pair: Pair, kind: str, key: str) -> None:
    """An equality of an extension, a composite type: nothing is looked up by a path."""
    extension = kind.partition(".")[2]
    for dsn in (pair.source_admin_dsn, pair.target_admin_dsn):
        if kind.startswith("public"):
            run_sql(dsn, f"create extension if not exists {extension} schema public")
    table = f"create table credit.t (id {kind} primary key, body text, n int);"
    migrate(pair, f"create schema credit; create type credit.pair as (a int, b text); {table}")
    run_sql(pair.source_dsn, f"insert into credit.t values ('{key}', {BIG}, 1)")
    ok(pair, "init")
    run_sql(pair.target_dsn, "delete from credit.t")
    run_sql(pair.source_dsn, "update credit.t set n = 2")
    drain(pair)
    assert same_rows(pair) == {"t": 1}


def prepare(pair: Pair) -> None:
    """Make fifty rows on both sides, their bodies stored as TOAST."""
    migrate(pair, TABLE)
    run_sql(
        pair.source_dsn,
        f"insert into credit.t select 'key ' || n, n, {BIG}, '{{}}' from generate_series(1, 50) n",
    )
    ok(pair, "init")

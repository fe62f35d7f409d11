"""How large values are stored on the target: by the faster method, where nobody chose another."""

import pytest

from tests.databases import fetch, migrate, run_sql
from tests.pair import Pair, same_rows
from tests.process import drain, ok
from tests.servers import Versions

# Of the servers that tests find, these know lz4.
KNOWN = Versions(17, 17)

TABLE = """
create schema credit;
create table credit.letter (id int primary key, body text, kept text compression pglz);
"""
ROWS = (
    "insert into credit.letter select n, repeat(md5(n::text), 5000), repeat(md5(n::text), 5000)"
    " from generate_series({}, {}) n"
)
FOUND = (
    "select pg_column_compression(body) || ' ' || pg_column_compression(kept) from credit.letter"
    " order by id"
)


@pytest.mark.parametrize("versions", [KNOWN], indirect=True)
def test_rows_that_are_copied_and_streamed(pair: Pair) -> None:
    """Both are compressed by lz4, but for a column that has a method of its own."""
    migrate(pair, TABLE)
    copy_one_and_stream_one(pair)
    assert fetch(pair.target_dsn, FOUND) == ["lz4 pglz"] * 2


@pytest.mark.parametrize("versions", [KNOWN], indirect=True)
def test_a_method_that_was_chosen(pair: Pair) -> None:
    """What the target's database says counts."""
    migrate(pair, TABLE)
    run_sql(
        pair.target_admin_dsn,
        "do $$ begin execute format('alter database %I set default_toast_compression = pglz',"
        " current_database()); end $$",
    )
    copy_one_and_stream_one(pair)
    assert fetch(pair.target_dsn, FOUND) == ["pglz pglz"] * 2


@pytest.mark.parametrize("versions", [Versions(18, 18)], indirect=True)
def test_a_server_that_knows_no_other(pair: Pair) -> None:
    """It compresses as it can."""
    migrate(pair, TABLE)
    run_sql(pair.source_dsn, ROWS.format(1, 1))
    ok(pair, "init")
    assert same_rows(pair) == {"letter": 1}
    methods = "select 'lz4' = any(enumvals) from pg_settings where name like 'default_toast_c%'"
    (knows,) = fetch(pair.target_dsn, methods)
    assert fetch(pair.target_dsn, FOUND) == ["lz4 pglz" if knows else "pglz pglz"]


def copy_one_and_stream_one(pair: Pair) -> None:
    """Let a row come by the initial copy and another by the stream."""
    run_sql(pair.source_dsn, ROWS.format(1, 1))
    ok(pair, "init")
    run_sql(pair.source_dsn, ROWS.format(2, 2))
    drain(pair)
    assert same_rows(pair) == {"letter": 2}

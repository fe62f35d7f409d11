"""Generated and identity columns, in the manner of 011_generated.pl."""

import pytest

from tests.databases import migrate, run_sql
from tests.oracle import make_trio
from tests.pair import Pair, same_rows
from tests.process import drain, ok
from tests.servers import Versions, on_every_version

BIG = "(select string_agg(md5(i::text), '') from generate_series(1, 300) i)"


@on_every_version
def test_what_is_generated_is_computed_anew(pair: Pair) -> None:
    """From columns that change and columns that stay, TOAST values among them; on any side."""
    with make_trio(
        pair,
        "create table credit.t (id int generated always as identity primary key, n int, body text,"
        " twice int generated always as (n * 2) stored,"
        " length int generated always as (length(body)) stored, last int default 7)",
    ) as trio:
        trio.change(f"insert into credit.t (n, body) select n, {BIG} from generate_series(1, 60) n")
        trio.commit_each(
            "update credit.t set n = n + 1",
            "update credit.t set body = body || 'x' where id < 20",
            "update credit.t set n = -1, last = null where id < 30",
            "insert into credit.t (id, n) overriding system value values (1000, 1), (1001, null)",
            "delete from credit.t where twice = 62",
        )
        trio.change(
            "update credit.t set id = default where id = 5",
            "delete from credit.t where id = 6",
            "insert into credit.t (id, n) overriding system value values (6, 66)",
        )
        trio.compare()


@pytest.mark.parametrize("versions", [Versions(18, 18)], indirect=True, ids=str)
def test_what_is_generated_when_it_is_read(pair: Pair) -> None:
    """Virtual columns are nowhere stored, and nowhere sent."""
    with make_trio(
        pair,
        "create table credit.t (id int primary key, n int, twice int generated always as (n * 2),"
        " m int)",
    ) as trio:
        trio.change("insert into credit.t (id, n, m) select n, n, n from generate_series(1, 60) n")
        trio.commit_each(
            "update credit.t set n = n + 1 where twice > 20", "delete from credit.t where twice = 8"
        )
        trio.compare()


def test_what_only_the_copies_generate(pair: Pair) -> None:
    """A column more on the copies, computed there."""
    table = "create table credit.t (id int primary key, first text, last text{})"
    more = (
        ", both_names text generated always as (first || ' ' || last) stored,"
        " seen timestamptz default '2026-01-01'"
    )
    with make_trio(pair, table.format(""), copies=[table.format(more)]) as trio:
        trio.change("insert into credit.t select n, 'f' || n, 'l' from generate_series(1, 60) n")
        trio.commit_each(
            "update credit.t set last = 'new' where id < 30",
            "insert into credit.t values (100, 'a', 'b')",
            "update credit.t set id = -id where id < 10",
        )
        assert trio.compare(partial=True) == {"credit.t": 61}


SENT = "create table credit.t (id int primary key, n int, twice {})"
GENERATED = "int generated always as (n * 2) stored"
AS_STORED = "for table credit.t with (publish_generated_columns = 'stored')"


@pytest.mark.parametrize("versions", [Versions(18, 18)], indirect=True, ids=str)
def test_what_is_generated_and_sent(pair: Pair) -> None:
    """PostgreSQL 18 sends it, if the publication says so: to a column that is not generated."""
    with make_trio(
        pair,
        SENT.format(GENERATED),
        "insert into credit.t (id, n) select n, n from generate_series(100, 110) n",
        copies=[SENT.format("int")],
        publication=AS_STORED,
        copy_data=True,
    ) as trio:
        trio.change("insert into credit.t (id, n) select n, n from generate_series(1, 60) n")
        trio.commit_each(
            "update credit.t set n = n + 1 where id < 30",
            "delete from credit.t where twice = 80",
            "update credit.t set id = -id where id < 10",
        )
        trio.compare()


@pytest.mark.parametrize("versions", [Versions(18, 18)], indirect=True, ids=str)
def test_what_is_generated_and_sent_to_one_that_is_generated_too(pair: Pair) -> None:
    """The target computes its own; a subscription would end here."""
    migrate(pair, "create schema credit;" + SENT.format(GENERATED))
    run_sql(pair.source_admin_dsn, f"create publication {pair.publication} {AS_STORED}")
    rows = "insert into credit.t (id, n) select n, n from generate_series(%s::int, %s) n"
    run_sql(pair.source_dsn, rows, 1, 10)
    ok(pair, "init")
    run_sql(pair.source_dsn, rows, 11, 20)
    run_sql(pair.source_dsn, "update credit.t set n = -n where id % 3 = 0")
    drain(pair)
    assert same_rows(pair) == {"t": 20}

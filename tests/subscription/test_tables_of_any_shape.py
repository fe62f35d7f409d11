"""Tables with hardly any columns and with as many as there can be; rows of nothing; many tables."""

from dataclasses import replace

import psycopg

from tests.databases import fetch
from tests.oracle import make_trio
from tests.pair import Pair
from tests.process import ok
from tests.servers import on_every_version

# A transaction of so many tables takes as many locks on the target.
MANY = 2_000


def test_a_table_with_one_column(pair: Pair) -> None:
    """Its only column is the key, or is none and may be NULL."""
    with make_trio(
        pair,
        "create table credit.one (id text primary key)",
        "create table credit.bare (v int); alter table credit.bare replica identity full",
    ) as trio:
        trio.change(
            "insert into credit.one select n from generate_series(1, 100) n",
            "insert into credit.one values (''), (' ')",
            "insert into credit.bare select nullif(n % 3, 0) from generate_series(1, 30) n",
        )
        trio.commit_each(
            "update credit.one set id = id || 'x' where id > '5'",
            "update credit.one set id = id",
            "delete from credit.one where id < '2'",
            "update credit.bare set v = 7 where v is null",
            "update credit.bare set v = null where v = 1",
            "delete from credit.bare where v = 2",
        )
        trio.compare()


def test_a_table_without_columns(pair: Pair) -> None:
    """Rows of nothing are rows: each that comes is there, and can be truncated."""
    with make_trio(
        pair,
        "create table credit.nothing ()",
        "alter table credit.nothing replica identity full",
        "create table credit.dropped (a int, b int); alter table credit.dropped drop a, drop b;"
        " alter table credit.dropped replica identity full",
    ) as trio:
        trio.change(
            "insert into credit.nothing default values",
            *(["insert into credit.nothing default values"] * 40),
            *(["insert into credit.dropped default values"] * 3),
        )
        assert trio.compare() == {"credit.nothing": 41, "credit.dropped": 3}
        trio.change("truncate credit.nothing", "insert into credit.nothing default values")
        assert trio.compare()["credit.nothing"] == 1
        # The server's apply worker cannot find a row of nothing; the daemon takes any of them.
        trio.change("delete from credit.dropped where ctid = '(0,1)'")
        ok(pair, "run", "--until-current")
        assert fetch(pair.target_dsn, "select count(*) from credit.dropped") == [2]


def test_as_many_columns_as_there_can_be(pair: Pair) -> None:
    """1,600, most of them NULL, and rows of a thousand values."""
    columns = ", ".join(f"c{n} int" for n in range(1599))
    values = ", ".join(str(n) for n in range(1000))
    names = ", ".join(f"c{n}" for n in range(1000))
    with make_trio(pair, f"create table credit.t (id int primary key, {columns})") as trio:
        trio.change(
            "insert into credit.t (id, c0, c1598) select n, n, n from generate_series(1, 50) n",
            f"insert into credit.t (id, {names}) values (100, {values})",
        )
        trio.commit_each(
            "update credit.t set c500 = id, c0 = null",
            "update credit.t set id = -id where id % 2 = 0",
            f"insert into credit.t (id, {names})"
            f" select n, {values} from generate_series(200, 230) n",
        )
        trio.compare()


@on_every_version
def test_rows_of_nulls_and_of_empty_texts(pair: Pair) -> None:
    """NULL is not the empty text, in sets of rows and in single ones."""
    with make_trio(
        pair, "create table credit.t (id int primary key, a text, b bytea, c int[], d jsonb)"
    ) as trio:
        trio.change("insert into credit.t (id) select n from generate_series(1, 100) n")
        trio.change(
            "insert into credit.t select n, '', '', '{}', '{}' from generate_series(101, 200) n"
        )
        trio.commit_each(
            "update credit.t set a = '', b = null where id % 3 = 0",
            "update credit.t set a = null, c = '{}' where id % 4 = 0",
            "update credit.t set a = 'NULL', c = '{NULL}', d = 'null' where id in (1, 101)",
            "insert into credit.t values (0)",
        )
        trio.compare()


def test_values_of_some_megabytes(pair: Pair) -> None:
    """Text that compresses and text that does not, beside rows of a few bytes."""
    with make_trio(
        pair, "create table credit.t (id int primary key, n int, body text, raw bytea)"
    ) as trio:
        trio.change(
            "insert into credit.t values (1, 1, repeat('x', 20000000), null)",
            "insert into credit.t select 2, 2, string_agg(md5(n::text), e'\\\\\\t\\n'),"
            " decode(string_agg(md5(n::text), ''), 'hex') from generate_series(1, 200000) n",
            "insert into credit.t (id) select n from generate_series(10, 100) n",
        )
        trio.commit_each(
            "update credit.t set n = 0",
            "update credit.t set id = -id",
            "update credit.t set body = body || 'end' where id = -1",
        )
        trio.compare()


def test_a_transaction_of_thousands_of_tables(pair: Pair) -> None:
    """All of them in one transaction of the target."""
    pair = replace(pair, max_rows=None)
    make = (
        f"do $$ begin for n in 1..{MANY} loop execute format("
        "'create table credit.t_%s (id int primary key, v text)', n); end loop; end $$"
    )
    fill = (
        f"do $$ begin for n in 1..{MANY} loop execute format("
        "'insert into credit.t_%s values (1, ''a''), (2, ''b'')', n); end loop; end $$"
    )
    change = (
        f"do $$ begin for n in 1..{MANY} loop execute format("
        "'update credit.t_%s set v = ''c'' where id = 2', n); end loop; end $$"
    )
    with make_trio(pair, make, publication="for tables in schema credit") as trio:
        trio.change(fill)
        trio.change(change)
        result = ok(pair, "run", "--until-current")
        assert result.returncode == 0
        trio.wait_for_oracle()
        for dsn in (pair.target_admin_dsn, trio.oracle_dsn):
            with psycopg.connect(dsn) as copy:
                count = " union all ".join(
                    f"select count(*) filter (where v in ('a', 'c')) as n from credit.t_{n}"
                    for n in range(1, MANY + 1, MANY // 10)
                )
                row = copy.execute(f"select sum(n), count(*) from ({count}) c".encode()).fetchone()
                assert row == (20, 10)

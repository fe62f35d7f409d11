"""Unique values beside the key that change owners, in the manner of 100_bugs.pl."""

import pytest

from tests.oracle import make_trio
from tests.pair import Pair

TABLE = "create table credit.t (id int primary key, u int unique, v int, unique (u, v))"
DEFERRABLE = (
    "create table credit.t (id int primary key, u int, v int, unique (u) deferrable initially {})"
)


def test_values_that_swap_owners(pair: Pair) -> None:
    """By way of NULL, by delete and insert, in one transaction and over several."""
    with make_trio(pair, TABLE) as trio:
        trio.change("insert into credit.t select n, n, n from generate_series(1, 100) n")
        trio.change(
            "update credit.t set u = null where id = 1",
            "update credit.t set u = 1 where id = 2",
            "update credit.t set u = 2 where id = 1",
            "delete from credit.t where id = 10",
            "update credit.t set u = 10 where id = 11",
            "insert into credit.t values (10, 11, 0)",
        )
        trio.commit_each(
            "update credit.t set u = -3 where id = 3",
            "update credit.t set u = 3 where id = 4",
            "update credit.t set u = 4 where id = 3",
            "delete from credit.t where id = 50",
            "insert into credit.t values (1050, 50, 50)",
            "update credit.t set id = 50, u = null where id = 51",
            "insert into credit.t values (51, 51, 51)",
        )
        trio.compare()


def test_values_that_move_along_a_chain(pair: Pair) -> None:
    """Each row takes the value of the next one: in the source's order alone it works."""
    with make_trio(pair, TABLE) as trio:
        trio.change("insert into credit.t select n, n * 10, n from generate_series(1, 60) n")
        trio.change(
            *(f"update credit.t set u = {n * 10 - 10} where id = {n}" for n in range(1, 61)),
            "insert into credit.t values (61, 600, 0)",
        )
        trio.compare()


@pytest.mark.parametrize("initially", ["deferred", "immediate"])
def test_a_whole_column_moved_by_one_statement(pair: Pair, initially: str) -> None:
    """A deferrable constraint lets one statement, or a transaction, shift and swap all values.

    The server's apply worker checks row by row all the same, unless the constraint is deferred
    there too, so that the oracle's is.
    """
    with make_trio(
        pair, DEFERRABLE.format(initially), copies=[DEFERRABLE.format("deferred")]
    ) as trio:
        trio.change("insert into credit.t select n, n, n from generate_series(1, 100) n")
        trio.change("update credit.t set u = u + 1")
        trio.change("update credit.t set u = 103 - u where id <= 40 or id > 60")
        trio.change(
            "set constraints all deferred",
            "update credit.t set u = 7 where id = 50",
            "update credit.t set v = -1",
            "update credit.t set u = 51 where u = 7 and id <> 50",
        )
        trio.compare()


def test_an_exclusion_constraint(pair: Pair) -> None:
    """Ranges that give way to each other."""
    with make_trio(
        pair,
        "create table credit.t (id int primary key, span int4range,"
        " exclude using gist (span with &&))",
    ) as trio:
        trio.change(
            "insert into credit.t select n, int4range(n * 10, n * 10 + 10)"
            " from generate_series(1, 50) n"
        )
        trio.change(
            "update credit.t set span = 'empty' where id = 5",
            "update credit.t set span = '[40,60)' where id = 4",
            "delete from credit.t where id = 7",
            "update credit.t set span = '[60,80)' where id = 6",
            "insert into credit.t values (7, '[1000,)')",
        )
        trio.compare()


def test_unique_values_among_null_and_partial_indexes(pair: Pair) -> None:
    """NULLs not distinct, an index over some rows, over an expression."""
    with make_trio(
        pair,
        "create table credit.t (id int primary key, a text, b text, active boolean)",
        "create unique index on credit.t (a) nulls not distinct",
        "create unique index on credit.t (b) where active",
        "create unique index on credit.t (lower(b || id::text))",
    ) as trio:
        trio.change("insert into credit.t select n, n, 'B', n = 1 from generate_series(1, 40) n")
        trio.change(
            "update credit.t set active = false where active",
            "update credit.t set active = true where id = 2",
            "update credit.t set a = null where id = 3",
            "update credit.t set a = '3' where id = 4",
        )
        trio.change(
            "delete from credit.t where a is null",
            "update credit.t set a = null, active = null where id = 2",
            "update credit.t set active = true where id = 30",
        )
        trio.compare()

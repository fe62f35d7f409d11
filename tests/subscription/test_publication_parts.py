"""A part of the rows or columns, in the manner of 028_row_filter.pl and 031_column_list.pl."""

import pytest

from tests.databases import fetch
from tests.oracle import make_trio
from tests.pair import Pair
from tests.process import drain
from tests.servers import on_every_version, only_pgoutput

TABLE = "create table credit.t (id int primary key, n int, secret text, note text)"
FILL = "insert into credit.t select n, n, 'secret', 'note' from generate_series(1, 100) n"
FULL = "alter table credit.t replica identity full"
BIG = "(select string_agg(md5(i::text), '') from generate_series(1, 300) i)"


@only_pgoutput
@on_every_version
def test_rows_that_cross_the_filter(pair: Pair) -> None:
    """An update that lets a row in arrives as an insert, one that lets it out as a delete."""
    with make_trio(
        pair, TABLE, FULL, publication="for table credit.t where (n > 10 and note is not null)"
    ) as trio:
        trio.change(FILL)
        trio.commit_each(
            "update credit.t set n = n + 5 where id <= 20",
            "update credit.t set n = n - 50 where id > 40",
            "update credit.t set note = null where id % 9 = 0",
            f"update credit.t set note = {BIG} where id between 16 and 40",
            "update credit.t set n = 0 where id = 30",
            "update credit.t set n = 1000 where id = 30",
            "update credit.t set id = -id where id % 4 = 0",
            "delete from credit.t where id % 5 = 0",
        )
        trio.change(
            "insert into credit.t values (500, 0, 'x', 'x'), (501, 11, 'x', 'x')",
            "update credit.t set n = 50 where id = 500",
            "update credit.t set n = 0 where id = 501",
            "update credit.t set n = 70 where id = 501",
        )
        assert trio.compare(partial=True)["credit.t"] > 0


@only_pgoutput
@pytest.mark.parametrize("rows", [1, 40])
def test_a_row_that_the_filter_lets_in_without_a_value(pair: Pair, rows: int) -> None:
    """TOAST that the update left alone is not sent with the insert: it is read from the source.

    The server's apply worker writes NULL for it, so that there is no oracle here. A row that had
    the key before is another one, and leaves nothing of its own behind.
    """
    with make_trio(pair, TABLE, publication="for table credit.t where (id > 1000)") as trio:
        trio.change(
            f"insert into credit.t select n, n, 's', md5(n::text) || {BIG}"
            f" from generate_series(1, {rows}) n",
            f"insert into credit.t values (2001, 0, 's', {BIG} || 'of another row')",
        )
        drain(pair)
        trio.change("delete from credit.t where id = 2001", "update credit.t set id = id + 2000")
        trio.change("update credit.t set n = n + 1")
        drain(pair)
        query = "select format('%s', t) from credit.t t where id > 1000 order by id"
        assert fetch(pair.source_dsn, query) == fetch(pair.target_dsn, query)


@only_pgoutput
@pytest.mark.parametrize("identity", ["default", "full"])
def test_columns_that_are_left_out(pair: Pair, identity: str) -> None:
    """They keep what the copies have in them."""
    columns = "(id, n, note)" if identity == "default" else ""
    with make_trio(
        pair,
        TABLE,
        f"alter table credit.t replica identity {identity}",
        publication=f"for table credit.t {columns}",
    ) as trio:
        trio.change(FILL)
        trio.compare(partial=True)
        trio.on_copies("update credit.t set secret = 'of the copy'")
        trio.commit_each(
            "update credit.t set n = -n, secret = 'other' where id < 50",
            "update credit.t set secret = 'nothing else' where id > 90",
            f"update credit.t set note = {BIG} where id % 2 = 0",
            "update credit.t set id = id + 1000, n = 0 where id % 2 = 0",
            "delete from credit.t where id % 7 = 0",
        )
        trio.compare(partial=True)


@only_pgoutput
@on_every_version
def test_the_initial_copy_takes_the_same_part(pair: Pair) -> None:
    """Filter and column list hold for the rows that are there; what inherits is not taken twice."""
    with make_trio(
        pair,
        TABLE,
        "create table credit.child (primary key (id)) inherits (credit.t)",
        FILL,
        "insert into credit.child select n, n, 'x', 'x' from generate_series(200, 250) n",
        copies=(TABLE, "create table credit.child (primary key (id)) inherits (credit.t)"),
        publication="for table only credit.t (id, n) where (id % 3 = 0), table credit.child",
        copy_data=True,
    ) as trio:
        trio.commit_each(
            "update credit.t set n = -n where id % 2 = 0",
            "update credit.child set n = 0 where id > 240",
        )
        counts = trio.compare(partial=True)
        assert counts["credit.child"] == 51

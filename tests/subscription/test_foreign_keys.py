"""Foreign keys, enforced on the target: cycles, self reference, cascades, checks that wait.

The server's apply worker acts as a replica, for which no foreign key is checked and none cascades.
The daemon may not: it has to write in an order in which each holds.
"""

import pytest

from tests.oracle import make_trio
from tests.pair import Pair
from tests.servers import on_every_version

CYCLE = """
create table credit.a (id int primary key, b int);
create table credit.b (id int primary key, a int not null references credit.a);
alter table credit.a add foreign key (b) references credit.b deferrable initially deferred;
"""
TREE = """
create table credit.node (
    id int primary key,
    parent int references credit.node on delete cascade on update cascade,
    n int
)
"""
FAMILY = """
create table credit.p (id int primary key, n int);
create table credit.cascading (
    id int primary key, p int references credit.p on delete cascade on update cascade
);
create table credit.nulling (
    id int primary key, p int references credit.p on delete set null on update set null
);
create table credit.defaulting (
    id int primary key,
    p int default 0 references credit.p on delete set default on update set default
);
create table credit.grandchild (
    id int primary key, c int references credit.cascading on delete cascade on update cascade
);
"""
CODES = """
create table credit.node (
    id int primary key, code text unique,
    parent text references credit.node (code) on update {0} on delete set null
);
create table credit.x (id int primary key, code text unique, y text);
create table credit.y (
    id int primary key, code text unique, x text references credit.x (code) on update {0}
);
alter table credit.x add foreign key (y) references credit.y (code) on update {0}
"""
PARTITIONED = """
create table credit.p (id int, day int, primary key (id, day)) partition by range (day);
create table credit.p_1 partition of credit.p for values from (0) to (10);
create table credit.p_2 partition of credit.p for values from (10) to (20);
create table credit.c (
    id int primary key, p int, day int, body text,
    foreign key (p, day) references credit.p on update cascade on delete cascade
);
create table credit.a (
    id int primary key, c int references credit.c on delete cascade
) partition by hash (id);
create table credit.a_0 partition of credit.a for values with (modulus 1, remainder 0)
"""
WAITING = """
create table credit.p (id int primary key {deferrable}, n int);
alter table credit.p replica identity full;
create table credit.q (id int primary key, n int unique deferrable initially deferred);
create table credit.c (
    id int primary key, q int references credit.q deferrable initially deferred
);
"""


@on_every_version
def test_tables_that_refer_to_each_other(pair: Pair) -> None:
    """Rows of both come and go in one transaction, in whichever order the checks allow."""
    with make_trio(pair, CYCLE) as trio:
        trio.change(
            "insert into credit.a select n, n from generate_series(1, 100) n",
            "insert into credit.b select n, 101 - n from generate_series(1, 100) n",
        )
        trio.change(
            "update credit.a set b = 101 where id = 1",
            "insert into credit.b values (101, 2)",
            "update credit.a set b = null where id > 90",
            "delete from credit.b where id > 90 and id <= 100",
        )
        trio.change("update credit.a set b = null", "delete from credit.b where id % 2 = 0")
        trio.change("delete from credit.b", "delete from credit.a where id < 50")
        assert trio.compare() == {"credit.a": 51, "credit.b": 0}


def test_a_tree_that_refers_to_itself(pair: Pair) -> None:
    """Whole branches renamed and deleted by one statement, children before their parents."""
    with make_trio(pair, TREE) as trio:
        trio.change(
            "insert into credit.node select n, nullif(n / 2, 0), n from generate_series(1, 200) n"
        )
        trio.commit_each(
            "update credit.node set id = 1001 where id = 3",
            "delete from credit.node where id = 5",
            "update credit.node set id = id + 2000 where id between 64 and 100",
            "update credit.node set parent = 1 where parent = 1001",
            "delete from credit.node where id = 1001",
        )
        trio.change(
            "set constraints all immediate",
            "insert into credit.node values (5, 2, 0), (10, 5, 0)",
            "update credit.node set id = 6000 where id = 2",
            "delete from credit.node where id = 6000",
            "insert into credit.node values (2, 1, 1)",
        )
        trio.compare()


@on_every_version
def test_what_the_source_cascades_is_not_done_twice(pair: Pair) -> None:
    """CASCADE, SET NULL and SET DEFAULT of the source arrive as changes; the target has its own."""
    with make_trio(pair, FAMILY) as trio:
        trio.change(
            "insert into credit.p select n, n from generate_series(0, 60) n",
            *(
                f"insert into credit.{child} select n, n from generate_series(1, 60) n"
                for child in ("cascading", "nulling", "defaulting")
            ),
            "insert into credit.grandchild select n, n from generate_series(1, 60) n",
        )
        trio.commit_each(
            "delete from credit.p where id between 1 and 9",
            "update credit.p set id = id + 1000 where id between 10 and 19",
            "update credit.p set id = 2020 where id = 20",
            "update credit.cascading set id = -id where p > 1000",
        )
        trio.change(
            "delete from credit.p where id = 30",
            "insert into credit.p values (30, -1)",
            "update credit.nulling set p = 30 where id = 30",
            "update credit.defaulting set p = 30 where id = 30",
            "insert into credit.cascading values (30, 30)",
            "update credit.p set id = 31000 where id = 30",
            "update credit.p set id = 31001 where id = 31000",
            "delete from credit.cascading where p = 31001",
        )
        trio.compare()


def test_a_parent_that_goes_and_comes_again(pair: Pair) -> None:
    """Children change hands within the transaction: none is taken along on the target."""
    with make_trio(pair, FAMILY) as trio:
        trio.change(
            "insert into credit.p values (0, 0), (1, 1), (2, 2)",
            "insert into credit.cascading select n, 1 from generate_series(1, 50) n",
            "insert into credit.grandchild select n, n from generate_series(1, 50) n",
        )
        trio.compare()
        trio.change(
            "update credit.cascading set p = 2",
            "delete from credit.p where id = 1",
            "insert into credit.p values (1, 10)",
            "update credit.cascading set p = 1 where id <= 25",
            "delete from credit.p where id = 2",
        )
        trio.commit_each(
            "update credit.p set id = 3 where id = 1",
            "insert into credit.p values (1, 1)",
            "update credit.cascading set p = 1 where id = 1",
            "delete from credit.p where id = 3",
        )
        assert trio.compare() == {
            "credit.p": 2,
            "credit.cascading": 1,
            "credit.nulling": 0,
            "credit.defaulting": 0,
            "credit.grandchild": 1,
        }


def test_checks_that_wait_for_the_commit(pair: Pair) -> None:
    """Children first, parents last; values that two rows have for a moment, a key among them.

    A deferrable key is no replica identity, and no server's copy can find its rows by it.
    """
    with make_trio(
        pair,
        WAITING.format(deferrable="deferrable initially deferred"),
        copies=[WAITING.format(deferrable="")],
    ) as trio:
        trio.change(
            "insert into credit.c select n, n from generate_series(1, 60) n",
            "insert into credit.q select n, n + 1 from generate_series(1, 60) n",
            "update credit.q set n = n - 1",
            "insert into credit.p select n, n from generate_series(1, 60) n",
        )
        trio.change(
            "insert into credit.q values (101, 1)",
            "update credit.q set n = 3 where id = 2",
            "update credit.q set n = 2 where id = 3",
            "delete from credit.q where id = 1",
            "insert into credit.c values (61, 3), (62, 200)",
            "delete from credit.c where id = 1",
            "insert into credit.q values (200, 200)",
        )
        trio.commit_each(
            "update credit.p set n = 0 where id < 10",
            "update credit.p set id = id + 1000 where id > 50",
            "delete from credit.p where id % 3 = 0",
        )
        trio.compare()


@on_every_version
def test_partitions_that_are_referred_to(pair: Pair) -> None:
    """Copied before what refers to them; a row that moves to another one is not taken for deleted.

    It comes as a delete and an insert: its children follow it, and theirs stay where they are.
    """
    with make_trio(
        pair,
        PARTITIONED,
        "insert into credit.p select n, n % 10 from generate_series(1, 9000) n",
        "insert into credit.c select n, n, n % 10, repeat('x', n) from generate_series(1, 60) n",
        "insert into credit.a select n, n from generate_series(1, 60) n",
        copies=[PARTITIONED],
        copy_data=True,
    ) as trio:
        trio.commit_each(
            "update credit.p set day = day + 10 where id = 5",
            "update credit.p set day = day + 10 where id between 20 and 60",
            "delete from credit.p where id in (1, 30)",
        )
        assert trio.compare()["credit.a"] == 58


@pytest.mark.parametrize("action", ["cascade", "set null"])
def test_values_that_are_referred_to_and_pass_to_another_row(pair: Pair, action: str) -> None:
    """Who refers to the new owner is not changed along with the old one: no key is in this."""
    with make_trio(pair, CODES.format(action)) as trio:
        for table in ("node", "x", "y"):
            trio.change(
                f"insert into credit.{table} select n, n from generate_series(1, 60) n",
            )
        trio.compare()
        for table, refers, column in (("node", "node", "parent"), ("x", "y", "x"), ("y", "x", "y")):
            trio.change(
                f"update credit.{table} set code = 'was ' || code where id = 1",
                f"update credit.{table} set code = '1' where id = 2",
                f"update credit.{refers} set {column} = '1' where id >= 3",
            )
        trio.compare()


def test_a_chain_over_partitions(pair: Pair) -> None:
    """A row moves to another partition, a delete and an insert: who refers to it stays.

    On the target the delete came first, and took the grandchildren, whom the source had kept.
    """
    with make_trio(pair, PARTITIONED) as trio:
        trio.change("insert into credit.p select n, n % 10 from generate_series(1, 60) n")
        trio.change(
            "insert into credit.c select n, n, n % 10, 'x' from generate_series(1, 60) n",
            "insert into credit.a select n, n from generate_series(1, 60) n",
        )
        trio.commit_each(
            "update credit.p set day = day + 10 where id % 4 = 0",
            "update credit.c set id = id + 0, body = body || 'y'",
            "delete from credit.p where id in (4, 5)",
        )
        trio.change(
            "update credit.p set day = day + 10 where id % 4 = 1",
            "update credit.p set day = day - 10 where id % 4 = 0",
            "delete from credit.c where p = 8",
            "insert into credit.c values (8, 8, 8, 'again')",
        )
        assert trio.compare()["credit.a_0"] == 57

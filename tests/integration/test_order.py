"""Changes that the target would refuse in another order than the source's: puzzles of order."""

from dataclasses import dataclass

import pytest

from tests.databases import migrate, run_sql
from tests.pair import Pair, same_rows
from tests.process import drain, ok


@dataclass(frozen=True, slots=True)
class Puzzle:
    """Changes that hold every constraint when done in their order, and in few others."""

    schema: str
    rows: str
    changes: str
    """On the source, after the copy; transactions end with `commit;`."""


# Incompressible, so that it is stored out of line: an update that leaves it alone does not send it.
TOAST = "(select string_agg(md5(n::text), '') from generate_series(1, 200) n)"

ITEMS = "create table credit.item (id int primary key, code int not null unique {});"
ITEMS_ROWS = "insert into credit.item select n, n from generate_series(1, {}) n;"
TREE = """
create table credit.node (
    id int primary key, parent int references credit.node {}, body text
);
create index on credit.node (parent);
"""
TREE_ROWS = f"""
insert into credit.node values
    (1, null, 'a'), (2, null, 'b'), (3, 1, 'c'), (4, 3, 'd'), (5, 4, {TOAST});
"""
MOVE_BRANCH = """
update credit.node set parent = 2 where id = 3;
delete from credit.node where id = 1;
"""
FAMILY = """
create table credit.parent (id int primary key, name text);
create table credit.child (id int primary key, parent int references credit.parent {}, body text);
"""
FAMILY_ROWS = f"""
insert into credit.parent values (1, 'a'), (2, 'b');
insert into credit.child select n, 1, {TOAST} from generate_series(1, 3) n;
insert into credit.child select n, 1, 'small' from generate_series(4, 60) n;
"""
MOVE_CHILDREN = """
update credit.child set parent = 2;
delete from credit.parent where id = 1;
"""
CYCLE = """
create table credit.a (id int primary key, b int);
create table credit.b (id int primary key, a int references credit.a {0});
alter table credit.a add foreign key (b) references credit.b {0};
"""
PRICES = "create table credit.price (id numeric primary key, n int, body text);"
PRICES_ROWS = f"insert into credit.price values (1.0, 0, {TOAST}), (2.0, 0, 'b');"
PRICES_CHANGES = """
update credit.price set n = n + 1;
update credit.price set id = 1.00 where id = 1;
update credit.price set n = n + 1 where id = 1;
update credit.price set id = 1.0 where id = 1;
update credit.price set n = n + 1;
commit;
update credit.price set id = 1.000 where id = 1;
delete from credit.price where id = 2;
insert into credit.price values (2.00, 7, 'c');
"""

PUZZLES = {
    "unique values swap owners in a transaction": Puzzle(
        ITEMS.format(""),
        ITEMS_ROWS.format(2),
        """
        update credit.item set code = 0 where id = 1;
        update credit.item set code = 1 where id = 2;
        update credit.item set code = 2 where id = 1;
        """,
    ),
    "unique values swap owners across transactions": Puzzle(
        ITEMS.format(""),
        ITEMS_ROWS.format(60),
        """
        update credit.item set code = -code;
        commit;
        update credit.item set code = 61 + code;
        commit;
        delete from credit.item where id = 7;
        commit;
        insert into credit.item values (100, 54);
        """,
    ),
    "a unique value moves to a new row": Puzzle(
        ITEMS.format(""),
        ITEMS_ROWS.format(2),
        """
        delete from credit.item where id = 1;
        insert into credit.item values (3, 1);
        update credit.item set id = 1 where id = 3;
        """,
    ),
    "keys swap": Puzzle(
        ITEMS.format(""),
        ITEMS_ROWS.format(2),
        """
        update credit.item set id = 0 where id = 1;
        update credit.item set id = 1 where id = 2;
        update credit.item set id = 2 where id = 0;
        update credit.item set code = code + 5;
        """,
    ),
    "a deferrable unique constraint is permuted": Puzzle(
        ITEMS.format("deferrable"), ITEMS_ROWS.format(5), "update credit.item set code = 6 - code;"
    ),
    "a deferrable unique constraint is permuted, many rows": Puzzle(
        ITEMS.format("deferrable"),
        ITEMS_ROWS.format(100),
        "update credit.item set code = 101 - code;",
    ),
    "a tree is deleted in one statement": Puzzle(
        TREE.format(""), TREE_ROWS, "delete from credit.node;"
    ),
    "a tree is inserted in one statement": Puzzle(
        TREE.format(""), TREE_ROWS, "insert into credit.node values (6, 7, 'x'), (7, 2, 'y');"
    ),
    "a tree gets other keys in one statement": Puzzle(
        TREE.format(""), TREE_ROWS, "update credit.node set id = id + 100, parent = parent + 100;"
    ),
    "a branch moves, its old parent goes (cascade)": Puzzle(
        TREE.format("on delete cascade"), TREE_ROWS, MOVE_BRANCH
    ),
    "a branch moves, its old parent goes (set null)": Puzzle(
        TREE.format("on delete set null"),
        TREE_ROWS,
        f"{MOVE_BRANCH} commit; delete from credit.node where id = 4;",
    ),
    "a branch gets a new key and moves, its old parent goes (cascade)": Puzzle(
        TREE.format("on delete cascade on update cascade"),
        TREE_ROWS,
        """
        update credit.node set id = 30 where id = 3;
        update credit.node set parent = 2 where id = 30;
        delete from credit.node where id = 1;
        """,
    ),
    "a cycle of deferrable foreign keys": Puzzle(
        CYCLE.format("deferrable initially deferred"),
        "insert into credit.a values (1, 1); insert into credit.b values (1, 1);",
        """
        insert into credit.a select n, n from generate_series(2, 40) n;
        insert into credit.b select n, n from generate_series(2, 40) n;
        commit;
        delete from credit.a where id < 30;
        delete from credit.b where id < 30;
        """,
    ),
    "a cycle of foreign keys": Puzzle(
        CYCLE.format(""),
        "insert into credit.a values (1, null); insert into credit.b values (1, 1);",
        """
        insert into credit.a values (2, 1);
        insert into credit.b values (2, 2);
        update credit.a set b = 2;
        commit;
        update credit.a set b = null;
        delete from credit.b;
        delete from credit.a;
        """,
    ),
    "a cycle of foreign keys is inserted in one statement": Puzzle(
        CYCLE.format(""),
        "",
        "with x as (insert into credit.a values (1, 1)) insert into credit.b values (1, 1);",
    ),
    "children move, their parent goes (no action)": Puzzle(
        FAMILY.format(""), FAMILY_ROWS, MOVE_CHILDREN
    ),
    "children move, their parent goes (cascade)": Puzzle(
        FAMILY.format("on delete cascade"), FAMILY_ROWS, MOVE_CHILDREN
    ),
    "children move, their parent goes (set null)": Puzzle(
        FAMILY.format("on delete set null"), FAMILY_ROWS, MOVE_CHILDREN
    ),
    "children move to a new parent that takes the old one's key": Puzzle(
        FAMILY.format("on delete cascade on update cascade"),
        FAMILY_ROWS,
        """
        insert into credit.parent values (3, 'c');
        update credit.child set parent = 3;
        delete from credit.parent where id = 1;
        update credit.parent set id = 1 where id = 3;
        commit;
        update credit.parent set id = 3 where id = 1;
        delete from credit.child where id = 2;
        """,
    ),
    "a parent goes with its children and comes again": Puzzle(
        FAMILY.format("on delete cascade"),
        FAMILY_ROWS,
        """
        delete from credit.parent where id = 1;
        insert into credit.parent values (1, 'again');
        insert into credit.child values (1, 1, 'again');
        """,
    ),
    "a family is emptied and begins anew": Puzzle(
        FAMILY.format("on delete cascade"),
        FAMILY_ROWS,
        """
        delete from credit.parent where id = 1;
        insert into credit.child values (1, 2, 'x');
        truncate credit.parent cascade;
        insert into credit.parent values (1, 'y');
        insert into credit.child values (1, 1, 'z');
        """,
    ),
    "tables with deferrable foreign keys are emptied": Puzzle(
        FAMILY.format("deferrable"),
        FAMILY_ROWS,
        """
        insert into credit.child values (100, 2, 'x');
        commit;
        truncate credit.parent, credit.child;
        commit;
        insert into credit.parent values (3, 'y');
        """,
    ),
    "a key of several columns changes with its parent's": Puzzle(
        """
        create table credit.parent (id int primary key);
        create table credit.child (
            n int, body text, parent int references credit.parent on update cascade,
            primary key (parent, n)
        );
        """,
        f"""
        insert into credit.parent values (1), (2);
        insert into credit.child select n, {TOAST}, 1 from generate_series(1, 3) n;
        insert into credit.child values (1, 'x', 2);
        """,
        """
        update credit.parent set id = 3 where id = 1;
        update credit.child set body = 'y' where parent = 3 and n = 2;
        update credit.parent set id = 1 where id = 2;
        update credit.parent set id = 2 where id = 3;
        """,
    ),
    "a numeric key changes its text": Puzzle(PRICES, PRICES_ROWS, PRICES_CHANGES),
    "a numeric key changes its text, referenced": Puzzle(
        PRICES + "create table credit.use (price numeric references credit.price"
        " on update cascade on delete set null, id int primary key, body text);",
        PRICES_ROWS + f"insert into credit.use values (1.0, 1, {TOAST}), (2.0, 2, 'x');",
        PRICES_CHANGES,
    ),
    "the whole row is the identity": Puzzle(
        "create table credit.item (n int, id int, code int unique, body text, primary key (id, n));"
        "alter table credit.item replica identity full;",
        f"insert into credit.item select n, 1, n, {TOAST} from generate_series(1, 40) n;",
        """
        update credit.item set code = -code;
        update credit.item set code = 41 + code;
        commit;
        update credit.item set n = n + 100;
        delete from credit.item where n = 105;
        update credit.item set code = null where n = 106;
        """,
    ),
}


@pytest.mark.parametrize("puzzle", PUZZLES.values(), ids=PUZZLES.keys())
def test_order_that_matters(pair: Pair, puzzle: Puzzle) -> None:
    """What the source may do in its order ends equal on the target, with the same constraints."""
    migrate(pair, "create schema credit;" + puzzle.schema)
    run_sql(pair.source_dsn, puzzle.rows)
    ok(pair, "init")
    for transaction in puzzle.changes.split("commit;"):
        run_sql(pair.source_dsn, transaction)
    drain(pair, timeout_s=30)
    same_rows(pair)

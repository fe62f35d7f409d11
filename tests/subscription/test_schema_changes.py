"""Migrations: the copies are changed first, as they have to be, and the stream brings both shapes.

Beside these, test_migrations is about a catalog that is ahead of what is read.
"""

from tests.oracle import make_trio
from tests.pair import Pair
from tests.servers import on_every_version

TABLE = "create table credit.t (id int primary key, a int, b text, c jsonb)"
FILL = "insert into credit.t select n, n, 'b', '{}' from generate_series(1, 50) n"
BIG = "(select string_agg(md5(i::text), '') from generate_series(1, 300) i)"


@on_every_version
def test_columns_that_come_and_go(pair: Pair) -> None:
    """Added, with a default or without; dropped and added again; between changes of one batch."""
    with make_trio(pair, TABLE) as trio:
        trio.change(FILL)
        trio.everywhere("alter table credit.t add column d numeric(10, 2) default 1.5")
        trio.commit_each(
            "update credit.t set d = 2 where id < 10",
            "insert into credit.t values (100, 1, 'x', null, 7.25)",
            f"update credit.t set b = {BIG} where id = 1",
        )
        trio.compare()
        trio.everywhere("alter table credit.t drop column a")
        trio.commit_each(
            "update credit.t set d = 3 where id in (1, 20)", "delete from credit.t where id = 2"
        )
        trio.compare()
        trio.everywhere("alter table credit.t add column a text")
        trio.commit_each(
            "update credit.t set a = 'again' where id > 40",
            "update credit.t set id = -1 where id = 1",
            "insert into credit.t (id, a) values (101, 'x')",
        )
        trio.compare()


def test_a_migration_amid_a_transaction(pair: Pair) -> None:
    """Rows before and after it, of one transaction; what is rolled back leaves no trace."""
    with make_trio(pair, TABLE) as trio:
        trio.on_copies("alter table credit.t add column d int")
        trio.change(
            FILL,
            "savepoint s",
            "alter table credit.t add column other int",
            "update credit.t set other = 1",
            "rollback to s",
            "update credit.t set a = 0 where id = 1",
            "alter table credit.t add column d int",
            "update credit.t set d = id where id > 40",
            "insert into credit.t values (100, 1, 'x', null, 5)",
        )
        trio.compare()


def test_types_that_become_wider(pair: Pair) -> None:
    """Rewritten on both sides; new values need the new type."""
    with make_trio(pair, TABLE) as trio:
        trio.change(FILL)
        trio.compare()
        trio.everywhere(
            "alter table credit.t alter a type numeric, alter b type varchar(20),"
            " alter id type bigint"
        )
        trio.commit_each(
            "update credit.t set a = 1e30 where id = 1",
            "insert into credit.t values (5000000000, 0.1, 'x', null)",
            "update credit.t set id = id + 6000000000 where id = 2",
        )
        trio.compare()


def test_an_index_as_replica_identity(pair: Pair) -> None:
    """Changed on all sides between updates, and back; the daemon needs it on the source alone."""
    with make_trio(
        pair,
        "create table credit.t (id int primary key, n int not null, b text)",
        "create unique index other on credit.t (n)",
    ) as trio:
        trio.change(f"insert into credit.t select n, n, {BIG} from generate_series(1, 60) n")
        for identity in ("using index other", "default"):
            trio.commit_each(
                "update credit.t set b = 'short' where id % 10 = 0",
            )
            trio.compare()
            trio.everywhere(f"alter table credit.t replica identity {identity}")
            trio.commit_each(
                "update credit.t set b = b || '!' where id % 2 = 0",
                "update credit.t set n = n + 1000 where id % 3 = 0",
                "update credit.t set id = id + 1000 where id % 5 = 0",
                "delete from credit.t where id % 7 = 0",
            )
        trio.compare()


def test_a_table_dropped_and_made_again(pair: Pair) -> None:
    """Another table by the same name, of another shape: the copies are changed in between."""
    with make_trio(pair, TABLE, publication="for tables in schema credit") as trio:
        trio.change(FILL)
        trio.compare()
        made = "create table credit.t (id text primary key, z int)"
        trio.everywhere("drop table credit.t", made)
        trio.refresh_oracle()
        trio.change("insert into credit.t select n, n from generate_series(1, 40) n")
        trio.commit_each(
            "update credit.t set z = 0 where z < 9", "delete from credit.t where z > 30"
        )
        assert trio.compare() == {"credit.t": 30}


def test_a_table_that_moves(pair: Pair) -> None:
    """To another name on both sides."""
    with make_trio(pair, TABLE, publication="for tables in schema credit") as trio:
        trio.change(FILL)
        trio.compare()
        trio.everywhere("alter table credit.t rename to u")
        trio.refresh_oracle()
        trio.commit_each(
            "update credit.u set a = 0 where a < 9", "delete from credit.u where a > 30"
        )
        assert trio.compare() == {"credit.u": 30}

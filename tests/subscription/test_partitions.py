"""Partitioned tables and inheritance, in the manner of 013_partition.pl."""

from tests.oracle import make_trio
from tests.pair import Pair
from tests.process import run_cdc
from tests.servers import on_every_version, only_pgoutput

RANGES = """
create table credit.t (id int, day int, v text, primary key (id, day)) partition by range (day);
create table credit.t_1 partition of credit.t for values from (0) to (10);
create table credit.t_2 partition of credit.t for values from (10) to (20);
create table credit.t_rest partition of credit.t default;
"""
HASHES = """
create table credit.t (id int, day int, v text, primary key (id, day)) partition by hash (id);
create table credit.h_0 partition of credit.t for values with (modulus 2, remainder 0);
create table credit.h_1 partition of credit.t for values with (modulus 2, remainder 1)
    partition by list (day);
create table credit.h_1_all partition of credit.h_1 default;
"""
PLAIN = "create table credit.t (id int, day int, v text, primary key (id, day))"
LEVELS = """
create table credit.t (id int, v text, day int, primary key (id, day)) partition by range (day);
create table credit.t_low (day int not null, junk int, id int not null, v text)
    partition by list (id);
alter table credit.t_low drop column junk;
create table credit.t_low_a partition of credit.t_low for values in (3, 6, 9, 100);
create table credit.t_low_rest partition of credit.t_low default;
alter table credit.t attach partition credit.t_low for values from (0) to (50);
create table credit.t_high partition of credit.t for values from (50) to (100);
"""
INHERITING = """
create table credit.base (id int primary key, v text);
create table credit.child (more int, primary key (id)) inherits (credit.base);
create table credit.other (id int primary key, v text) inherits (credit.base);
"""
BIG = "(select string_agg(md5(i::text || n), '') from generate_series(1, 300) i)"
VIA_ROOT = "for table credit.t with (publish_via_partition_root = true)"

CHANGES = (
    "update credit.t set v = 'y' where day < 15",
    "update credit.t set day = day + 10 where id % 5 = 0 and day < 15",
    "update credit.t set id = -id, day = 29 - day where id % 7 = 0",
    "delete from credit.t where day = 29",
)
FILL = "insert into credit.t (id, day, v) select n, n % 30, 'x' from generate_series(1, 300) n"


@only_pgoutput
@on_every_version
def test_to_a_plain_table_through_the_root(pair: Pair) -> None:
    """Published as their root, rows that move between partitions are updated where they are."""
    with make_trio(pair, RANGES, copies=[PLAIN], publication=VIA_ROOT) as trio:
        trio.change(FILL)
        trio.commit_each(*CHANGES)
        trio.compare()
        trio.commit_each(
            "truncate credit.t_2",  # of a partition alone, which nobody is told of
            "insert into credit.t values (1000, 5, 'z')",
        )
        trio.compare(partial=True)
        trio.commit_each("truncate credit.t", FILL)
        assert trio.compare() == {"credit.t": 300}


@only_pgoutput
def test_to_other_partitions_through_the_root(pair: Pair) -> None:
    """The copy is cut by hash and by list where the source is cut by range."""
    with make_trio(pair, RANGES, copies=[HASHES], publication=VIA_ROOT) as trio:
        trio.change(FILL)
        trio.commit_each(*CHANGES)
        assert trio.compare(only="credit.t")["credit.t"] > 0


@only_pgoutput
def test_partitions_that_send_less_than_their_root_says(pair: Pair) -> None:
    """REPLICA IDENTITY FULL of the root alone: an old row has its key, the rest is not known.

    What is missing there is no NULL, above all not for a TOAST value that stays.
    """
    full = "alter table credit.t replica identity full"
    with make_trio(pair, RANGES, full, copies=[PLAIN], publication=VIA_ROOT) as trio:
        trio.change(FILL.replace("'x'", BIG))
        trio.compare()
        trio.commit_each(
            "update credit.t set id = id + 1000 where id % 2 = 0",
            "update credit.t set id = -1 where id = 1",
            "update credit.t set day = 29 - day where id % 3 = 0",
            "delete from credit.t where id % 7 = 0",
        )
        trio.compare()


@only_pgoutput
def test_a_partition_that_sends_another_key_than_its_root(pair: Pair) -> None:
    """Its rows cannot be found by the root's key: `check` says so, and no delete is lost.

    The server's apply worker finds nothing to delete, and goes on.
    """
    identity = "alter table credit.t_1 replica identity {}"
    with make_trio(
        pair,
        RANGES,
        "alter table credit.t_1 add constraint other unique (id)",
        copies=[PLAIN],
        publication=VIA_ROOT,
    ) as trio:
        trio.change(FILL)
        trio.compare()
        trio.change(identity.format("using index other"))
        finding = run_cdc(pair, "check")
        assert finding.returncode == 1
        assert "credit.t_1: has another replica identity than credit.t" in finding.stdout
        trio.change("delete from credit.t where day = 5")
        trio.change(identity.format("default"))
        assert "credit.t_1" not in run_cdc(pair, "check").stdout
        refused = run_cdc(pair, "run", "--until-current")
        assert refused.returncode == 78
        assert "credit.t: the source sends an old row without its key" in refused.stderr


def test_partitions_of_partitions(pair: Pair) -> None:
    """Several levels, columns in another order, one of them dropped."""
    with make_trio(pair, LEVELS) as trio:
        trio.change(
            "insert into credit.t (id, day, v) select n, n % 100, case n % 3 when 0 then 'a' end"
            " from generate_series(1, 300) n"
        )
        trio.commit_each(
            "update credit.t set v = 'b' where id % 4 = 0",
            "update credit.t set day = 99 - day where id % 5 = 0",
            "delete from credit.t where id % 11 = 0",
            "truncate credit.t_low_a",
            "insert into credit.t (id, day, v) values (1000, 1, null), (1001, 1, 'c')",
        )
        trio.change("truncate credit.t_low", "insert into credit.t (id, day) values (1, 1)")
        trio.compare()


def test_a_partition_that_comes_and_goes(pair: Pair) -> None:
    """Attached with its rows, detached and written to alone."""
    with make_trio(pair, RANGES, "create table credit.t_3 (like credit.t including all)") as trio:
        trio.change(FILL.replace("% 30", "% 20"))
        trio.change("insert into credit.t_3 select n, 1000 + n, 'x' from generate_series(1, 50) n")
        trio.everywhere("alter table credit.t detach partition credit.t_2")
        trio.commit_each(
            "update credit.t_2 set v = 'alone'", "delete from credit.t_2 where id < 50"
        )
        trio.compare()
        trio.everywhere(
            "alter table credit.t attach partition credit.t_3 for values from (1000) to (2000)"
        )
        trio.commit_each(
            "update credit.t set day = day + 500 where id % 10 = 0 and day < 1000",
            "delete from credit.t where day > 1020",
        )
        trio.compare()


def test_tables_that_inherit(pair: Pair) -> None:
    """Each is a table of its own; a statement on the parent changes them all."""
    with make_trio(pair, INHERITING) as trio:
        trio.change(
            "insert into credit.base select n, 'base' from generate_series(1, 50) n",
            "insert into credit.child select n, 'child', n from generate_series(1, 50) n",
            "insert into credit.other select n, 'other' from generate_series(1, 50) n",
        )
        trio.commit_each(
            "update credit.base set v = v || '!' where id % 2 = 0",
            "update only credit.base set v = 'only' where id < 10",
            "delete from credit.base where id % 7 = 0",
            "update credit.base set id = id + 1000 where id > 40",
            "truncate credit.other",
            "truncate only credit.base",
        )
        trio.compare()

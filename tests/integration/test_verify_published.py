"""What `cdc verify` compares of a table: what is published of it, and what its policies leave."""

import pytest

from tests.databases import migrate, run_sql
from tests.integration.test_verify_live import verified
from tests.pair import Pair
from tests.process import ok, streaming

ROWS = "insert into credit.t select n, n, 'x' || n from generate_series(1, 100) n"


def test_a_row_filter_and_a_list_of_columns(pair: Pair) -> None:
    """Rows that the filter leaves out, and columns that are not listed, are no difference."""
    table = "create table credit.t (id int primary key, n int, note text)"
    migrate(pair, f"create schema credit; {table}")
    run_sql(pair.source_dsn, ROWS)
    run_sql(
        pair.source_admin_dsn,
        f"create publication {pair.publication} for table credit.t (id, n) where (id > 40)",
    )
    ok(pair, "init")
    with streaming(pair):
        found = verified(pair)
        assert found.equal
        assert found.tables["credit.t"]["source_rows"] == 60
        run_sql(pair.target_dsn, "update credit.t set note = 'ours' where id = 50")
        assert verified(pair).equal
        run_sql(pair.target_dsn, "update credit.t set n = 0 where id = 50")
        run_sql(pair.target_dsn, "insert into credit.t values (1, 1)")
        assert verified(pair).counts("credit.t") == (0, 1, 1)


@pytest.mark.parametrize("deletes", ["soft", "ignore"])
def test_rows_that_a_policy_keeps(pair: Pair, deletes: str) -> None:
    """What the source has deleted is no difference where it is to stay; what it has is."""
    table = "create table credit.t (id int primary key, n int, note text)"
    migrate(pair, f"create schema credit; {table}")
    run_sql(pair.target_dsn, "alter table credit.t add column deleted_at timestamptz")
    pair.settings.write_text(f'[tables."credit.t"]\ndeletes = "{deletes}"\n')
    run_sql(pair.source_dsn, ROWS)
    ok(pair, "init")
    with streaming(pair):
        run_sql(pair.source_dsn, "delete from credit.t where id <= 10")
        found = verified(pair)
        assert found.equal
        kept = 10 if deletes == "ignore" else 0
        assert found.tables["credit.t"]["target_rows"] == 90 + kept
        run_sql(pair.target_dsn, "update credit.t set n = -1 where id = 50")
        if deletes == "soft":
            run_sql(pair.target_dsn, "update credit.t set deleted_at = now() where id = 60")
            run_sql(pair.target_dsn, "update credit.t set deleted_at = null where id = 1")
            assert verified(pair).counts("credit.t") == (1, 1, 1)
        else:
            assert verified(pair).counts("credit.t") == (0, 0, 1)


def test_tables_of_all_shapes(pair: Pair) -> None:
    """Partitions, inheritance, generated columns, no key, no columns, odd names: all are looked at.

    One row of each is changed on the target, and found.
    """
    migrate(
        pair,
        """
        create schema credit;
        create table credit.parts (id int, n int, primary key (id)) partition by hash (id);
        create table credit.part_0 partition of credit.parts
          for values with (modulus 2, remainder 0);
        create table credit.part_1 partition of credit.parts
          for values with (modulus 2, remainder 1);
        create table credit.above (id int primary key, n int);
        create table credit.below (primary key (id)) inherits (credit.above);
        create table credit.made (id int primary key, n int generated always as (id * 2) stored);
        create table credit.bare (a int, b text);
        alter table credit.bare replica identity full;
        create table credit."odd ""name.x" ("the ""key"" %s" text primary key, n int);
        create table credit.empty (id int primary key);
        create table credit.words (a text collate "C", b text collate "POSIX", primary key (a, b));
        """,
    )
    run_sql(
        pair.source_dsn,
        """
        insert into credit.parts select n, n from generate_series(1, 100) n;
        insert into credit.above select n, n from generate_series(1, 10) n;
        insert into credit.below select n, n from generate_series(1, 20) n;
        insert into credit.made (id) select n from generate_series(1, 10) n;
        insert into credit.bare select n % 3, 'x' from generate_series(1, 10) n;
        insert into credit.words values ('a', 'b');
        insert into credit."odd ""name.x" select 'k' || n, n from generate_series(1, 10) n;
        """,
    )
    ok(pair, "init")
    with streaming(pair):
        found = verified(pair)
        assert found.equal, found
        assert {name: table["source_rows"] for name, table in found.tables.items()} == {
            "credit.part_0": 52,
            "credit.part_1": 48,
            "credit.above": 10,
            "credit.below": 20,
            "credit.made": 10,
            "credit.bare": 10,
            'credit.odd "name.x': 10,
            "credit.empty": 0,
            "credit.words": 1,
        }
        run_sql(
            pair.target_dsn,
            """
            update credit.parts set n = -1 where id = 1;
            update credit.below set n = -1 where id = 11;
            alter table credit.made alter column n drop expression;
            update credit.made set n = -1 where id = 1;
            delete from credit.bare where ctid = (select min(ctid) from credit.bare);
            update credit."odd ""name.x" set n = -1 where n = 5;
            insert into credit.empty values (1);
            """,
        )
        found = verified(pair)
        differing = {name for name in found.tables if any(found.counts(name))}
        assert len(differing) == 6
        assert found.counts("credit.above") == (0, 0, 0)
        assert found.counts("credit.bare") == (1, 0, 0)
        found = verified(pair, "--repair", 'credit."odd ""name.x"')
        assert found.equal

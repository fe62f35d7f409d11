"""Tables of the target that somebody alters while the daemon writes to them.

A trigger, a rule or a foreign key that acts changes rows of the source and lets no statement fail.
The daemon finds it before it commits, takes it away like one that was there from the start, says so
in the ledger, and writes the transaction anew.
"""

from dataclasses import dataclass

import pytest

from tests.databases import fetch, run_sql, wait_until
from tests.integration.test_bugs import run_all
from tests.pair import Pair, same_rows
from tests.process import run_cdc, streaming

TABLES = """
create table credit.parent (id int primary key, n int);
create table credit.child (id int primary key, parent int, n numeric(20, 4));
create table credit.parts (id int primary key, n int) partition by range (id);
create table credit.part partition of credit.parts for values from (0) to (1000)
"""

REWRITE = """
create function credit.rewrite() returns trigger language plpgsql as
$$ begin new.n := -1; return new; end $$;
create trigger meddles before insert or update on credit.{}
for each row execute function credit.rewrite()
"""

VETO = """
create function credit.veto() returns trigger language plpgsql as $$ begin return null; end $$;
create trigger meddles before delete on credit.child for each row execute function credit.veto()
"""


@dataclass(frozen=True, slots=True)
class Alteration:
    """What somebody does to the target, and what the ledger says that was taken away."""

    statement: str
    event: str


ALTERATIONS = {
    "trigger that rewrites": Alteration(REWRITE.format("child"), "triggers disabled"),
    "trigger that vetoes": Alteration(VETO, "triggers disabled"),
    "trigger of a partition": Alteration(REWRITE.format("part"), "triggers disabled"),
    "trigger of a partitioned table": Alteration(REWRITE.format("parts"), "triggers disabled"),
    "rule": Alteration(
        "create rule meddles as on delete to credit.child do instead nothing", "rule disabled"
    ),
    "foreign key that cascades": Alteration(
        "alter table credit.child add foreign key (parent) references credit.parent"
        " on delete cascade",
        "foreign key without actions",
    ),
}


@pytest.mark.parametrize("max_rows", ["1", "10000"], ids=["by parts", "at once"])
@pytest.mark.parametrize("name", ALTERATIONS)
def test_what_meddles_is_found_before_the_commit(pair: Pair, name: str, max_rows: str) -> None:
    """The rows stay the source's, in the very transaction that met it."""
    prepare(pair, "with (publish_via_partition_root)")
    with streaming(pair, {"CDC_APPLY_MAX_ROWS": max_rows}) as daemon:
        run_sql(pair.source_dsn, "update credit.child set n = 0")
        wait_until(lambda: fetch(pair.target_dsn, "select sum(n)::int from credit.child") == [0])
        run_sql(pair.target_dsn, ALTERATIONS[name].statement)
        run_all(
            pair.source_dsn,
            "begin; set constraints all deferred;"
            " delete from credit.parent where id < 10; delete from credit.child where id > 90;"
            " insert into credit.parent select n, n from generate_series(1, 9) n;"
            " update credit.child set n = 7 where id < 50;"
            " insert into credit.child values (0, 1, 1);"
            " update credit.parts set n = 8 where id > 50; insert into credit.parts values (0, 1);"
            " commit",
        )
        run_sql(pair.source_dsn, "insert into credit.parent values (0, 0)")
        query = "select count(*) from credit.parent where id = 0"
        wait_until(lambda: fetch(pair.target_dsn, query) == [1])
        assert daemon.terminate() == 0
    assert same_rows(pair) == {"parent": 101, "child": 91, "part": 101}
    (found,) = fetch(
        pair.target_dsn, "select count(*) from cdc.ledger where event = %s", ALTERATIONS[name].event
    )
    assert found


def test_a_column_that_became_narrower_is_refused(pair: Pair) -> None:
    """It would round: found though no statement fails, and nothing of the transaction is there."""
    prepare(pair, "")
    with streaming(pair) as daemon:
        run_sql(pair.source_dsn, "update credit.child set n = 0.25 where id = 1")
        query = "select n::text from credit.child where id = 1"
        wait_until(lambda: fetch(pair.target_dsn, query) == ["0.2500"])
        run_sql(pair.target_dsn, "alter table credit.child alter n type numeric(20, 2)")
        run_sql(pair.source_dsn, "update credit.child set n = 0.1234 where id = 1")
        assert daemon.process.wait(20) == 78
        assert "may not hold" in daemon.log()
    assert fetch(pair.target_dsn, query) == ["0.25"]
    run_sql(pair.target_dsn, "alter table credit.child alter n type numeric(20, 4)")
    assert run_cdc(pair, "run", "--until-current").returncode == 0
    same_rows(pair)


def test_what_came_while_the_daemon_was_away(pair: Pair) -> None:
    """A foreign key that acts on a table that is not written itself: found at the start."""
    prepare(pair, "")
    assert run_cdc(pair, "run", "--until-current").returncode == 0
    run_sql(pair.target_dsn, ALTERATIONS["foreign key that cascades"].statement)
    run_all(pair.source_dsn, "update credit.parent set id = id + 1000 where id < 5")
    result = run_cdc(pair, "run", "--until-current")
    assert result.returncode == 78
    assert "child_parent_fkey" in result.stderr, (
        "the source has no such rule, the copy cannot keep it"
    )
    run_sql(pair.target_dsn, "alter table credit.child drop constraint child_parent_fkey")
    assert run_cdc(pair, "run", "--until-current").returncode == 0
    same_rows(pair)


def prepare(pair: Pair, options: str) -> None:
    """Make the tables on both sides, rows in them, and the publication."""
    for dsn in (pair.source_dsn, pair.target_dsn):
        run_all(dsn, "create schema credit", *TABLES.split(";"))
    run_sql(
        pair.source_admin_dsn,
        f"create publication {pair.publication} for tables in schema credit {options}",
    )
    for table in ("parent", "parts"):
        rows = "select n, n from generate_series(1, 100) n"
        run_sql(pair.source_dsn, f"insert into credit.{table} {rows}")
    rows = "select n, n, n from generate_series(1, 100) n"
    run_sql(pair.source_dsn, f"insert into credit.child {rows}")

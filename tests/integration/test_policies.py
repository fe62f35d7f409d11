"""What the operator wants kept of a table's deletes and truncates."""

from pathlib import Path

import psycopg
import pytest

from tests.databases import fetch, migrate, run_sql
from tests.pair import Pair, same_rows
from tests.process import drain, last_words, ok, run_cdc
from tests.servers import on_every_version

TABLES = """
create schema credit;
create table credit.gone (id int primary key, unit text, body text);
create table credit.kept (id int primary key, unit text, body text);
create table credit.marked (id int, part int, unit text, body text, primary key (id, part));
create table credit.rate (rate numeric primary key);
create table credit.bare (n int, t text);
alter table credit.bare replica identity full;
"""
MARKERS = """
alter table credit.marked add column deleted_at timestamptz;
alter table credit.bare add column "Gone, when" timestamptz;
"""
SETTINGS = """
[tables."credit.kept"]
deletes = "ignore"
truncate = "ignore"

[tables."credit.marked"]
deletes = "soft"

[tables."credit.rate"]
deletes = "ignore"

[tables."credit.bare"]
deletes = "soft"
deleted_at = "Gone, when"
truncate = "halt"
"""
BIG = "(select string_agg(md5(i::text), '') from generate_series(1, 300) i)"


@on_every_version
def test_a_soft_delete_marks_the_row_and_an_insert_revives_it(pair: Pair) -> None:
    """The row stays as it last was, with the time of the source's commit; a TOAST value too."""
    prepare(pair)
    with psycopg.connect(pair.source_dsn, autocommit=True) as source:
        source.execute(
            f"insert into credit.marked select n, 0, 'u' || n, {BIG} from generate_series(1, 60) n"
        )
        drain(pair)
        source.execute("delete from credit.marked where id = 1")
        source.execute("delete from credit.marked where id > 30")
        source.execute("delete from credit.marked where id = 2")
        source.execute("insert into credit.marked values (2, 0, 'again', null)")
    drain(pair)
    assert fetch(pair.target_dsn, "select count(*) from credit.marked") == [60]
    marked = "select id from credit.marked where deleted_at is not null order by 1"
    assert fetch(pair.target_dsn, marked) == [1, *range(31, 61)]
    recent = "select bool_and(now() - deleted_at between '0' and '10 min') from credit.marked"
    assert fetch(pair.target_dsn, recent) == [True]
    assert fetch(pair.target_dsn, "select length(body) from credit.marked where id = 1") == [9600]
    assert fetch(pair.target_dsn, "select unit from credit.marked where id = 2") == ["again"]
    # Revived by a row of another batch than the one that deleted it.
    run_sql(pair.source_dsn, "insert into credit.marked values (1, 0, 'back', null)")
    run_sql(
        pair.source_dsn,
        "insert into credit.marked select n, 0, 'back', null from generate_series(31, 60) n",
    )
    drain(pair)
    assert fetch(pair.target_dsn, marked) == []
    live_rows_are_equal(pair, "marked", "deleted_at")


def test_rows_that_lived_within_one_batch_are_kept_too(pair: Pair) -> None:
    """Inserted, changed and deleted before the target saw any of it: marked as it last was."""
    prepare(pair)
    run_sql(
        pair.source_dsn,
        "insert into credit.marked values (1, 0, 'first', 'body'), (2, 0, 'x', 'y');"
        "update credit.marked set unit = 'last' where id = 1;"
        "delete from credit.marked where id = 1;"
        "insert into credit.kept values (1, 'first', 'body');"
        "delete from credit.kept",
    )
    drain(pair)
    found = fetch(pair.target_dsn, "select unit, body, deleted_at is null from credit.marked")
    assert sorted(map(str, found)) == sorted(["last", "body", "False", "x", "y", "True"])
    assert fetch(pair.target_dsn, "select id, unit from credit.kept") == [1, "first"]


def test_an_ignored_delete_leaves_the_row(pair: Pair) -> None:
    """A later row with its key takes its place, by insert and by change of key, few and many."""
    prepare(pair)
    with psycopg.connect(pair.source_dsn, autocommit=True) as source:
        source.execute("insert into credit.kept select n, n, 'old' from generate_series(1, 90) n")
        source.execute("insert into credit.gone select n, n, 'old' from generate_series(1, 90) n")
        drain(pair)
        source.execute("delete from credit.kept where id between 2 and 80")
        source.execute("delete from credit.gone where id between 2 and 80")
        drain(pair)
        assert fetch(pair.target_dsn, "select count(*) from credit.kept") == [90]
        source.execute("insert into credit.kept select n, n, 'new' from generate_series(10, 70) n")
        source.execute("update credit.kept set id = 2 where id = 1")
        source.execute("update credit.kept set id = 3 where id = 2")
        source.execute("insert into credit.gone values (2, 'a', 'b')")
        drain(pair)
    old = "select count(*) from credit.kept where body = 'old'"
    assert fetch(pair.target_dsn, old) == [90 - 61 - 2]
    assert same_rows_of(pair, "gone")
    missing = fetch(pair.source_dsn, "select format('%s', t) from credit.kept t")
    assert set(missing) <= set(fetch(pair.target_dsn, "select format('%s', t) from credit.kept t"))


def test_keys_that_move_onto_rows_marked_as_deleted(pair: Pair) -> None:
    """The row that the source has wins; its TOAST value stays."""
    prepare(pair)
    with psycopg.connect(pair.source_dsn, autocommit=True) as source:
        source.execute(
            f"insert into credit.marked select n, 0, 'u' || n, {BIG} from generate_series(1, 9) n"
        )
        source.execute("delete from credit.marked where id in (1, 2)")
        drain(pair)
        source.execute("update credit.marked set id = 1, unit = 'moved' where id = 5")
        drain(pair)
        with source.transaction():
            source.execute("update credit.marked set id = 2 where id = 1")
            source.execute("update credit.marked set id = 1 where id = 6")
            source.execute("delete from credit.marked where id = 2")
        drain(pair)
    live_rows_are_equal(pair, "marked", "deleted_at")
    marked = "select id from credit.marked where deleted_at is not null"
    assert fetch(pair.target_dsn, marked) == [2]


def test_a_key_that_comes_again_in_other_words(pair: Pair) -> None:
    """1.0 was deleted and kept, 1.00 comes: the row is that of the source, few and many."""
    prepare(pair)
    for scale in (1, 2):
        for first, last in ((1, 2), (10, 90)):
            rows = f"select round(n, {scale}) from generate_series({first}, {last}) n"
            run_sql(pair.source_dsn, f"delete from credit.rate; insert into credit.rate {rows}")
            drain(pair)
    assert fetch(pair.target_dsn, "select scale(rate), count(*) from credit.rate group by 1") == [
        *(2, 83)
    ]


def test_rows_without_a_key_are_marked_one_by_one(pair: Pair) -> None:
    """Of rows that are equal, as many are marked as were deleted; a name that needs quotes."""
    prepare(pair)
    with psycopg.connect(pair.source_dsn, autocommit=True) as source:
        source.execute("insert into credit.bare select 1, null from generate_series(1, 5)")
        source.execute(
            "delete from credit.bare where ctid in (select ctid from credit.bare limit 2)"
        )
        source.execute("update credit.bare set t = 'left'")
    drain(pair)
    marked = """select t, count(*) from credit.bare where "Gone, when" is not null group by t"""
    assert fetch(pair.target_dsn, marked) == [None, 2]
    live_rows_are_equal(pair, "bare", '"Gone, when"')


def test_a_truncate_is_ignored_or_ends_the_daemon(pair: Pair, tmp_path: Path) -> None:
    """Ignored for one table, carried out for the next; `halt` says what to set, and goes on."""
    prepare(pair)
    with psycopg.connect(pair.source_dsn, autocommit=True) as source:
        for table in ("gone", "kept"):
            source.execute(f"insert into credit.{table} values (1, 'a', 'b')".encode())
        source.execute("insert into credit.bare values (1, 'a')")
        source.execute("truncate credit.gone, credit.kept")
    drain(pair)
    assert fetch(pair.target_dsn, "select count(*) from credit.gone") == [0]
    assert fetch(pair.target_dsn, "select count(*) from credit.kept") == [1]
    run_sql(pair.source_dsn, "truncate credit.bare")
    run_sql(pair.source_dsn, "insert into credit.gone values (2, 'a', 'b')")
    refused = run_cdc(pair, "run", "--until-current")
    assert refused.returncode == 78
    assert "truncated credit.bare" in refused.stderr
    assert 'tables."credit.bare"' in last_words(refused.stderr)
    assert fetch(pair.target_dsn, "select count(*) from credit.bare") == [1]
    changed = pair.settings.read_text().replace('truncate = "halt"', 'truncate = "replicate"')
    pair.settings.write_text(changed)
    drain(pair)
    assert fetch(pair.target_dsn, "select count(*) from credit.bare") == [0]
    assert same_rows_of(pair, "gone") == 1


@pytest.mark.parametrize(
    ("marker", "named"),
    [
        ("", ("credit.marked", "deleted_at")),
        ("alter table credit.marked add column deleted_at boolean", ("credit.marked", "boolean")),
    ],
)
def test_a_marker_that_does_not_fit_ends_the_daemon(
    pair: Pair, marker: str, named: tuple[str, ...]
) -> None:
    """Missing, or of another type: nothing is written before it fits."""
    prepare(pair)
    run_sql(pair.target_dsn, "alter table credit.marked drop column deleted_at")
    if marker:
        run_sql(pair.target_dsn, marker)
    run_sql(pair.source_dsn, "insert into credit.marked values (1, 1, 'a', 'b')")
    refused = run_cdc(pair, "run", "--until-current")
    assert refused.returncode == 78
    for name in named:
        assert name in refused.stderr


def test_the_settings_in_force_are_shown(pair: Pair) -> None:
    """Those of tables too, with the file that they come from."""
    prepare(pair)
    shown = ok(pair, "config", "show").stdout
    assert f'tables."credit.kept".deletes\tnone\tignore\t{pair.settings}' in shown
    assert 'tables."credit.kept".deleted_at\tnone\tdeleted_at\tdefault' in shown


@pytest.mark.parametrize("deletes", ["soft", "ignore"])
def test_rows_without_a_key_are_kept_by_a_new_copy(pair: Pair, deletes: str) -> None:
    """Equal rows are counted: what is missing comes, what is extra is marked, or stays."""
    migrate(pair, "create schema credit; create table credit.t (n int, s json)")
    run_sql(pair.source_dsn, "alter table credit.t replica identity full")
    run_sql(pair.target_dsn, "alter table credit.t add column deleted_at timestamptz")
    pair.settings.write_text(f'[tables."credit.t"]\ndeletes = "{deletes}"\n')
    rows = "insert into credit.t select n / 2, '[1]' from generate_series(1, 9) n"
    run_sql(pair.source_dsn, rows)
    ok(pair, "init")
    run_sql(pair.source_dsn, "delete from credit.t where n in (1, 2)")
    drain(pair)
    run_sql(pair.target_dsn, "delete from credit.t where n = 4")
    run_sql(pair.target_dsn, "insert into credit.t values (77, '{}')")
    ok(pair, "resync", "credit.t")
    drain(pair)
    found = fetch(pair.target_dsn, "select n from credit.t order by 1")
    assert found == [0, 1, 1, 2, 2, 3, 3, 4, 4, 77]
    marked = "select n from credit.t where deleted_at is not null order by 1"
    assert fetch(pair.target_dsn, marked) == ([1, 1, 2, 2, 77] if deletes == "soft" else [])


def prepare(pair: Pair) -> None:
    """Make the tables, their markers on the target, the settings, and the pair ready to stream."""
    migrate(pair, TABLES)
    run_sql(pair.target_dsn, MARKERS)
    pair.settings.write_text(SETTINGS)
    ok(pair, "init")


def same_rows_of(pair: Pair, table: str) -> int:
    """Assert that a table is equal on both sides, and give its number of rows."""
    return same_rows(pair, tables=(table,))[table]


def live_rows_are_equal(pair: Pair, table: str, marker: str) -> None:
    """Assert that what the target has not marked is what the source has."""
    columns = {"marked": "id, part, unit, body", "bare": "n, t"}[table]
    query = f"select row({columns})::text from credit.{table}"
    live = fetch(pair.target_dsn, f"{query} where {marker} is null")
    assert sorted(map(str, live)) == sorted(map(str, fetch(pair.source_dsn, query)))


def test_a_key_that_changes_its_words_alone(pair: Pair) -> None:
    """From 1.0 to 1.00: the row is not in its own way, and what refers to it stays."""
    prepare(pair)
    child = "create table credit.rated (id int primary key, rate numeric references credit.rate"
    migrate(pair, f"{child} on delete cascade)")
    with psycopg.connect(pair.source_dsn, autocommit=True) as source:
        source.execute("insert into credit.rate values (1.0)")
        source.execute("insert into credit.rated values (1, 1.0)")
        drain(pair)
        source.execute("update credit.rate set rate = 1.00")
    drain(pair)
    assert same_rows(pair, tables=("rate", "rated")) == {"rate": 1, "rated": 1}

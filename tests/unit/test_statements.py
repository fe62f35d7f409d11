"""The SQL for one table, word for word: names that need quotes, two keys, a generated column."""

from dataclasses import replace

import pytest

from cdc.changes.relations import identify
from cdc.errors import ChangeRefused
from cdc.postgres.catalog import CatalogTable
from cdc.target.action import Execute
from cdc.target.plan import Planner
from cdc.target.statements import TableStatements
from cdc.target.truncation import truncate
from cdc.wire.messages import UNCHANGED
from tests.unit.shapes import catalog_of, catalog_table, column, relation, table

COLUMNS = ["account", 'od"d', "line", "total", "body"]
KEY = ["account", "line"]
LINES = TableStatements(
    table("Lines", COLUMNS, key=KEY),
    catalog_table(
        "Lines", ["account", 'od"d', "line", column("total", generated="s"), "body"], key=KEY
    ),
    0,
)
TAGS = TableStatements(table("tags", ["id"]), catalog_table("tags", ["id"]), 1)

WHOLE = (b"1", b"x", b"2", b"total", b"body")
PATCH = (b"1", UNCHANGED, b"2", b"total", b"body")
UPSERT = (
    b'insert into "credit"."Lines" ("account", "od""d", "line", "body")'
    b" values ($1, $2, $3, $4)"
    b' on conflict ("account", "line")'
    b' do update set "od""d" = excluded."od""d", "body" = excluded."body"'
)


def unmarked(action: Execute) -> Execute:
    """Return a statement without the mark that sets it apart from those of another shape."""
    text, mark = action.sql.rsplit(b" /* ", 1)
    assert mark.removesuffix(b" */").isdigit()
    otherwise = action.otherwise and unmarked(action.otherwise)
    return replace(action, sql=text, otherwise=otherwise)


# Row form


def test_a_whole_row_is_written_over_what_is_there() -> None:
    """The key finds the row; what the target generates is not written."""
    assert unmarked(LINES.upsert_row(WHOLE)) == Execute(UPSERT, (b"1", b"x", b"2", b"body"))


def test_a_row_is_deleted_by_its_key() -> None:
    """It may be gone already: any number of rows will do."""
    assert unmarked(LINES.delete_row((b"1", b"2"))) == Execute(
        b'delete from only "credit"."Lines" t where t."account" = $1 and t."line" = $2',
        (b"1", b"2"),
    )


def test_a_patch_sets_what_was_sent_on_the_one_row() -> None:
    """An unchanged TOAST value is not in SET; a row that is missing is an error."""
    assert unmarked(LINES.update_row((b"1", b"2"), PATCH)) == Execute(
        b'update only "credit"."Lines" t set "body" = $1 where t."account" = $2 and t."line" = $3',
        (b"body", b"1", b"2"),
        rows=1,
    )


def test_a_patch_of_nothing_still_needs_its_row() -> None:
    """All values but the key unchanged: nothing is set, and the row has to be there."""
    nothing = LINES.update_row((b"1", b"2"), (b"1", UNCHANGED, b"2", b"", UNCHANGED))
    assert unmarked(nothing) == Execute(
        b'update only "credit"."Lines" t set "account" = t."account"'
        b' where t."account" = $1 and t."line" = $2',
        (b"1", b"2"),
        rows=1,
    )


def test_a_changed_key_is_set_where_the_old_one_was() -> None:
    """A whole row that is missing is inserted."""
    change = LINES.update_row((b"1", b"7"), WHOLE)
    assert unmarked(change) == Execute(
        b'update only "credit"."Lines" t'
        b' set "account" = $1, "line" = $2, "od""d" = $3, "body" = $4'
        b' where t."account" = $5 and t."line" = $6',
        (b"1", b"2", b"x", b"body", b"1", b"7"),
        rows=1,
        otherwise=unmarked(LINES.upsert_row(WHOLE)),
    )
    assert LINES.update_row((b"1", b"7"), PATCH).otherwise is None


def test_a_table_of_nothing_but_its_key() -> None:
    """There is nothing to overwrite: the row is there or it is not."""
    assert unmarked(TAGS.upsert_row((b"1",))) == Execute(
        b'insert into "credit"."tags" ("id") values ($1) on conflict ("id") do nothing',
        (b"1",),
    )
    assert unmarked(TAGS.update_row(b"1", (b"2",))) == Execute(
        b'update only "credit"."tags" t set "id" = $1 where t."id" = $2',
        (b"2", b"1"),
        rows=1,
        otherwise=unmarked(TAGS.upsert_row((b"2",))),
    )


# Set form


def test_the_stage_has_the_types_of_the_table() -> None:
    """A temporary table with the columns that are written, and the op; empty after each commit."""
    assert LINES.create_stage == (
        b'create temporary table if not exists "pg_temp"."cdc stage 0" on commit delete rows as'
        b' select null::int4 as "cdc op", "account", "od""d", "line", "body"'
        b' from "credit"."Lines" with no data'
    )
    assert LINES.clear_stage == b'truncate "pg_temp"."cdc stage 0"'


def test_rows_are_copied_with_named_columns() -> None:
    """Column orders may differ between source, stage and target."""
    assert LINES.copy_rows == (
        b'copy "credit"."Lines" ("account", "od""d", "line", "body") from stdin'
    )
    assert LINES.copy_stage == (
        b'copy "pg_temp"."cdc stage 0" ("cdc op", "account", "od""d", "line", "body") from stdin'
    )


def test_lines_of_the_stage() -> None:
    """The op, then what is written; NULL where a patch or a delete has no value to give."""
    assert LINES.stage_line(b"3\t", WHOLE) == b"3\t1\tx\t2\tbody\n"
    assert LINES.stage_patch(b"4\t", PATCH) == b"4\t1\t\\N\t2\tbody\n"
    assert LINES.stage_key(b"5\t", (b"1", b"2")) == b"5\t1\t\\N\t2\t\\N\n"
    assert TAGS.stage_key(b"5\t", b"1") == b"5\t1\n"


def test_staged_rows_are_written_over_what_is_there() -> None:
    """The same as the row form, for all rows of an op."""
    assert LINES.upsert_stage(3) == Execute(
        b'insert into "credit"."Lines" ("account", "od""d", "line", "body")'
        b' select "account", "od""d", "line", "body"'
        b' from "pg_temp"."cdc stage 0" where "cdc op" = 3'
        b' on conflict ("account", "line")'
        b' do update set "od""d" = excluded."od""d", "body" = excluded."body"'
    )


def test_staged_patches_set_their_mask_on_all_their_rows() -> None:
    """Each of them has to be there."""
    mask = LINES.mask(PATCH)
    assert LINES.patch_stage(4, mask, 7) == Execute(
        b'update only "credit"."Lines" t set "body" = s."body" from "pg_temp"."cdc stage 0" s'
        b' where s."cdc op" = 4 and t."account" = s."account" and t."line" = s."line"',
        rows=7,
    )


def test_staged_patches_of_nothing_still_need_their_rows() -> None:
    """An empty mask sets the key to itself: an UPDATE has to set something."""
    assert LINES.patch_stage(4, (), 7) == Execute(
        b'update only "credit"."Lines" t set "account" = s."account", "line" = s."line"'
        b' from "pg_temp"."cdc stage 0" s'
        b' where s."cdc op" = 4 and t."account" = s."account" and t."line" = s."line"',
        rows=7,
    )


def test_staged_keys_are_deleted() -> None:
    """They may be gone already."""
    assert LINES.delete_stage(5, 7) == Execute(
        b'delete from only "credit"."Lines" t using "pg_temp"."cdc stage 0" s'
        b' where s."cdc op" = 5 and t."account" = s."account" and t."line" = s."line"'
    )


# What the target has to have


def test_an_order_of_columns_of_its_own_is_no_hindrance() -> None:
    """The target's columns may stand in another order, and it may have more of them."""
    target = catalog_table("tags", ["more", "note", "id"])
    statements = TableStatements(table("tags", ["id", "note"]), target, 0)
    assert statements.upsert_row((b"1", b"x")).parameters == (b"1", b"x")
    assert statements.copy_rows == b'copy "credit"."tags" ("id", "note") from stdin'


@pytest.mark.parametrize("key", [["b", "a"], ["a", "b"]])
def test_a_unique_index_may_have_its_columns_in_any_order(key: list[str]) -> None:
    """A primary key (b, a) of columns a, b comes as (a, b) on the stream; it is the same key."""
    statements = TableStatements(
        table("t", ["a", "b"], key=["a", "b"]), catalog_table("t", ["a", "b"], key=key), 0
    )
    assert b'on conflict ("a", "b")' in statements.upsert_row((b"1", b"2")).sql


def test_a_missing_column_is_refused() -> None:
    """The hint has the statement that adds it."""
    with pytest.raises(ChangeRefused, match="lacks column more, most") as caught:
        TableStatements(table("tags", ["id", "more", "most"]), catalog_table("tags", ["id"]), 0)
    assert "alter table credit.tags add column more" in caught.value.hint


@pytest.mark.parametrize("key", [[], ["id"], ["account", "line", "id"]])
def test_a_missing_unique_index_is_refused(key: list[str]) -> None:
    """ON CONFLICT needs an index on the key's columns, all of them and no others."""
    target = catalog_table("lines", ["account", "line", "id"], key=key)
    with pytest.raises(ChangeRefused, match=r"no unique index on \(account, line\)") as caught:
        TableStatements(table("lines", ["account", "line"], key=["account", "line"]), target, 0)
    assert "add primary key (account, line)" in caught.value.hint


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(catalog_table("t", ["id", column("number", identity="a")]), id="identity"),
        pytest.param(
            replace(catalog_table("t", ["id", "number"]), user_triggers=("touch",)), id="trigger"
        ),
    ],
)
def test_a_table_that_is_not_prepared_is_refused(target: CatalogTable) -> None:
    """GENERATED ALWAYS takes no new value in an UPDATE, a trigger rewrites rows."""
    with pytest.raises(ChangeRefused, match="not prepared"):
        Planner(catalog_of(target)).statements(table("t", ["id", "number"]))


def test_a_narrower_column_is_refused() -> None:
    """A numeric(24,8) in a numeric(20,6) would be rounded without an error."""
    shape = relation(1, "t", ["id", "n"])
    columns = (shape.columns[0], replace(shape.columns[1], type_oid=1700, type_modifier=1572876))
    source = identify(replace(shape, columns=columns), {})
    narrow = replace(column("n"), type_oid=1700, type_modifier=1310730)
    with pytest.raises(ChangeRefused, match="may not hold"):
        TableStatements(source, catalog_table("t", ["id", narrow]), 0)
    wide = replace(narrow, type_modifier=-1)
    TableStatements(source, catalog_table("t", ["id", wide]), 0)


def test_a_partitioned_table_is_changed_with_its_partitions() -> None:
    """Where any other is changed alone: what inherits from it comes under its own name."""
    root = replace(catalog_table("tags", ["id"]), partitioned=True)
    statements = TableStatements(table("tags", ["id"]), root, 2)
    assert unmarked(statements.delete_row(b"1")).sql.startswith(b'delete from "credit"."tags" t')
    assert truncate((root,), restart_identity=False).sql == b'truncate "credit"."tags"'

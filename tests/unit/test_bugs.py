"""Bugs that were found, one test each: what went wrong, in the smallest form that shows it."""

from pathlib import Path

import pytest

from cdc.changes.batch import BatchBuilder
from cdc.changes.change import each_change
from cdc.changes.fold import Step
from cdc.changes.policy import Policy
from cdc.changes.relations import RelationCache
from cdc.errors import ChangeRefused, PositionLost, ProtocolError, SettingsError
from cdc.lsn import Lsn
from cdc.postgres.session import conninfo
from cdc.settings import load_settings
from cdc.sync.position import check_position
from cdc.target.plan import SET_FORM_ROWS, Planner
from cdc.wire.messages import (
    UNCHANGED,
    Begin,
    Commit,
    Delete,
    Insert,
    Message,
    Relation,
    Truncate,
    Update,
)
from tests.unit.shapes import catalog_of, catalog_table, column, relation
from tests.unit.test_position import checkpoint, slot

NOTES = relation(1, "notes", ["id", "body"])
OTHERS = relation(2, "others", ["id", "body"])
BEGIN = Begin(Lsn(1), 0, 1)
COMMIT = Commit(Lsn(1), Lsn(2), 0)


def update(table: Relation, key: int, body: bytes | None = b"x") -> Update:
    """An Update of a whole row."""
    return Update(table.relation_id, None, False, (b"%d" % key, body))


def fold(*messages: Message) -> list[Step]:
    """Fold one transaction on two tables."""
    builder = BatchBuilder(RelationCache({}))
    for message in (BEGIN, NOTES, OTHERS, *messages, COMMIT):
        builder.add(message, 1)
    return builder.take().steps


def test_a_table_is_staged_once_in_a_plan() -> None:
    """Staging clears what is left of the part before, in a transaction that comes in parts.

    Two segments each staged rows of one table, each time after clearing the stage: the rows of the
    first were gone before they were written.
    """
    many = [update(NOTES, key) for key in range(SET_FORM_ROWS)]
    others = catalog_table("others", ["id", "body"])
    planner = Planner(catalog_of(catalog_table("notes", ["id", "body"]), others))
    made = planner.plan(fold(*many, Truncate((2,), False, False), *many))
    assert made is not None
    staged = [statements.table.name for statements, _ in made.stages]
    assert staged == [("credit", "notes")]
    assert sum(len(list(copy.lines)) for _, copy in made.stages) == 2 * SET_FORM_ROWS


def test_a_stage_is_never_taken_for_that_of_another_table() -> None:
    """A planner that is made anew in the same session names its stages anew.

    Temporary tables outlive a planner, and are created only if they do not exist: rows of one table
    passed through the column types of another, and numeric lost its digits.
    """
    catalog = catalog_of(
        catalog_table("notes", ["id", "body"]), catalog_table("others", ["id", "body"])
    )
    stages = []
    for table in (NOTES, OTHERS):
        planner = Planner(catalog)
        made = planner.plan(fold(*[update(table, key) for key in range(SET_FORM_ROWS)]))
        assert made is not None
        stages += [copy.sql for _, copy in made.stages]
    assert len(set(stages)) == 2


def test_a_change_after_the_commit_is_refused() -> None:
    """Every change belongs to a transaction; one between two of them was folded into the batch."""
    builder = BatchBuilder(RelationCache({}))
    for message in (BEGIN, NOTES, Insert(1, (b"1", b"x")), COMMIT):
        builder.add(message, 1)
    with pytest.raises(ProtocolError, match="outside a transaction"):
        builder.add(Insert(1, (b"2", b"x")), 1)


def test_a_missing_key_column_is_refused_where_exactness_is_asked_for() -> None:
    """A referenced table that lacks its key's column on the target: ChangeRefused, no KeyError."""
    planner = Planner(
        catalog_of(
            catalog_table("notes", ["number", "body"], key=["number"]),
            catalog_table("others", ["id", "body"], references=["notes"]),
        )
    )
    with pytest.raises(ChangeRefused, match="lacks column id"):
        planner.plan(fold(update(NOTES, 2), Delete(1, (b"1", None), False)))


def test_a_source_that_went_back_in_time_is_found() -> None:
    """WAL that ends before the checkpoint: a source restored from a disk image, on its timeline.

    It would silently skip all that it writes until its WAL has grown to the checkpoint again.
    """
    assert slot(900).source_lsn == "0/3E8"
    with pytest.raises(PositionLost):
        check_position(checkpoint(1001), slot(900), None)
    check_position(checkpoint(1000), slot(900), None)


@pytest.mark.parametrize("value", ["credit", "[credit]", "credit,other"])
def test_a_list_that_is_no_json_is_a_settings_error(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CDC_SOURCE_SCHEMAS=credit, as anyone would write it: not an exception of a library."""
    monkeypatch.setenv("CDC_SOURCE_SCHEMAS", value)
    with pytest.raises(SettingsError):
        load_settings()


def test_a_file_that_is_not_utf8_is_a_settings_error(tmp_path: Path) -> None:
    """TOML is UTF-8: a file that an editor saved as Latin-1 says so without a traceback."""
    path = tmp_path / "cdc.toml"
    path.write_bytes('[source]\nslot = "é"\n'.encode("latin-1"))
    with pytest.raises(SettingsError):
        load_settings(path)


def test_a_credential_that_is_not_utf8_is_a_settings_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the error does not hold what could not be read."""
    (tmp_path / "source.dsn").write_bytes("postgresql://cdc:hunter2é@db/credit".encode("latin-1"))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)


def test_a_kept_row_that_is_two_keys_in_other_words() -> None:
    """1.0 and 1.00 are one row of a target that keeps deleted rows: written in source order.

    Side by side in a set, the one that came last could be written first.
    """
    policies = {("credit", "notes"): Policy("ignore")}
    builder = BatchBuilder(RelationCache({}, policies))
    inserts = [Insert(1, (key, b"x")) for key in (b"1.0", b"1.00", b"1.0")]
    begin: list[Message] = [Begin(Lsn(1), 0, 1), relation(1, "notes", ["id", "body"])]
    for message in [*begin, *inserts]:
        builder.add(message, 1)
    steps = builder.take().steps
    for exact, planned in ((True, True), (False, False)):
        key = column("id", exact_text=exact)
        planner = Planner(catalog_of(catalog_table("notes", [key, "body"])))
        assert (planner.plan(steps) is not None) is planned


def test_a_key_of_one_column_that_does_not_change_is_not_set() -> None:
    """A change has its key as a tuple, the fold as the value alone: both are the same key.

    Taken for a new one it was set, so that every index had to be written, and for a kept row
    another one of that key was looked for.
    """
    builder = BatchBuilder(RelationCache({}))
    for message in (BEGIN, NOTES, Update(1, None, False, (b"1", UNCHANGED)), COMMIT):
        builder.add(message, 1)
    (change,) = each_change(builder.take().steps)
    planner = Planner(catalog_of(catalog_table("notes", ["id", "body"])))
    assert b' set "id" = t."id" where ' in planner.action(change).sql


def test_an_at_sign_in_a_password() -> None:
    """What libpq takes for the host is a part of the password: no message may quote it."""
    dsn = "postgresql://app:s3cret@Part2!@127.0.0.1:5432/postgres"
    with pytest.raises(SettingsError, match="password holds an @") as refused:
        conninfo(dsn, application_name="cdc")
    assert "Part2" not in refused.value.message + refused.value.hint

"""The order in which net changes are written, and the form that each of them takes."""

import re
from collections.abc import Iterator, Sequence

import pytest

from cdc.changes.batch import BatchBuilder
from cdc.changes.change import each_change
from cdc.changes.fold import Step
from cdc.changes.relations import RelationCache
from cdc.errors import ChangeRefused
from cdc.lsn import Lsn
from cdc.target.action import Action, Copy
from cdc.target.plan import SET_FORM_ROWS, Plan, Planner
from cdc.wire.messages import UNCHANGED, Begin, Delete, Insert, Message, Truncate, Update
from tests.unit.shapes import catalog_of, catalog_table, relation

# shares ─► accounts ─► owners; notes stands alone.
RELATIONS = {
    1: relation(1, "owners", ["id", "body"]),
    2: relation(2, "accounts", ["id", "body"]),
    3: relation(3, "shares", ["id", "body"]),
    4: relation(4, "notes", ["id", "body", "tail"]),
}
OWNERS, ACCOUNTS, SHARES, NOTES = RELATIONS
CATALOG = catalog_of(
    catalog_table("shares", ["id", "body"], references=["accounts"]),
    catalog_table("accounts", ["id", "body"], references=["owners"]),
    catalog_table("owners", ["id", "body"]),
    catalog_table("notes", ["id", "body", "tail"]),
)


def insert(table: int, key: int) -> Insert:
    """A new row."""
    return Insert(table, (b"%d" % key, *[b"x"] * (len(RELATIONS[table].columns) - 1)))


def update(table: int, key: int) -> Update:
    """A whole row."""
    return Update(table, None, False, insert(table, key).new)


def patch(table: int, key: int) -> Update:
    """A row whose last value is unchanged TOAST."""
    return Update(table, None, False, (*insert(table, key).new[:-1], UNCHANGED))


def delete(table: int, key: int) -> Delete:
    """A row that is gone."""
    return Delete(table, insert(table, key).new, True)


def many(*messages: Message, rows: int = SET_FORM_ROWS) -> Iterator[Message]:
    """The messages, and inserts into notes until it has so many rows."""
    yield from messages
    for key in range(1000, 1000 + rows - len(messages)):
        yield insert(NOTES, key)


def fold(messages: Sequence[Message]) -> list[Step]:
    """Fold messages of one transaction."""
    builder = BatchBuilder(RelationCache({}))
    for message in [Begin(Lsn(1), 0, 1), *RELATIONS.values(), *messages]:
        builder.add(message, 1)
    return builder.take().steps


def plan(*messages: Message, planner: Planner | None = None) -> Plan:
    """Plan messages of one transaction."""
    made = (planner or Planner(CATALOG)).plan(fold(messages))
    assert made is not None
    return made


def in_order(messages: Sequence[Message]) -> list[Action]:
    """The statements of messages of one transaction, one by one."""
    planner = Planner(CATALOG)
    return [planner.action(change) for change in each_change(fold(messages))]


def brief(actions: Sequence[Action]) -> list[str]:
    """Each action as its verb and its table."""
    pattern = re.compile(
        r'(insert|update|delete|copy|truncate)[^"]*"(?:credit|pg_temp)"\."([^"]+)"'
    )
    matches = [pattern.match(action.sql.decode()) for action in actions]
    return [f"{match[1]} {match[2]}" for match in matches if match]


# Order


def test_deletes_of_unreferenced_tables_come_first() -> None:
    """They may free a unique value that a new row takes."""
    made = plan(insert(SHARES, 1), delete(SHARES, 2), insert(NOTES, 1), delete(NOTES, 2))
    verbs = [action.split()[0] for action in brief(made.actions)]
    assert verbs == ["delete", "delete", "insert", "insert"]


def test_deletes_come_first_whatever_refers_to_what() -> None:
    """Foreign keys of the target only check, at the commit: no order is owed to them."""
    made = plan(insert(SHARES, 1), delete(OWNERS, 1), delete(ACCOUNTS, 1), insert(ACCOUNTS, 2))
    assert brief(made.actions) == [
        "delete owners",
        "delete accounts",
        "insert shares",
        "insert accounts",
    ]


def test_steps_keep_their_order() -> None:
    """A key change and a truncation stand between what came before and after them."""
    moved = Update(NOTES, (b"1", None, None), False, (b"2", b"x", b"x"))
    made = plan(insert(NOTES, 9), moved, delete(NOTES, 9), Truncate((NOTES, SHARES), True, False))
    assert brief(made.actions) == [
        "insert notes",
        "update notes",
        "delete notes",
        "truncate notes",
    ]
    assert made.actions[-1].sql == b'truncate only "credit"."notes", only "credit"."shares"'


# In source order


def test_in_source_order_nothing_is_rearranged() -> None:
    """The replay has each change by itself, where the source made it."""
    messages: list[Message] = [
        delete(OWNERS, 1),
        insert(SHARES, 1),
        Update(NOTES, (b"1", None, None), False, (b"2", b"x", b"x")),
        patch(NOTES, 3),
        Truncate((NOTES,), False, False),
        update(OWNERS, 2),
    ]
    assert brief(in_order(messages)) == [
        "delete owners",
        "insert shares",
        "update notes",
        "update notes",
        "truncate notes",
        "insert owners",
    ]


def test_in_source_order_a_key_changes_though_the_fold_made_it_an_insert() -> None:
    """The row was inserted under its old key in the same segment: replayed, it has to move."""
    moved = Update(NOTES, (b"1", None, None), False, (b"2", b"x", b"x"))
    assert brief(in_order([insert(NOTES, 1), moved])) == ["insert notes", "update notes"]


# Form


def test_few_rows_are_written_one_by_one() -> None:
    """Below SET_FORM_ROWS a statement a row; nothing is staged."""
    made = plan(*many(delete(NOTES, 1), patch(NOTES, 2), rows=SET_FORM_ROWS - 1))
    assert made.stages == []
    assert brief(made.actions) == [
        "delete notes",
        *["insert notes"] * (SET_FORM_ROWS - 3),
        "update notes",
    ]
    assert [action.rows for action in made.actions if not isinstance(action, Copy)][-1] == 1


def test_many_rows_are_staged_and_written_by_kind() -> None:
    """From SET_FORM_ROWS on: COPY for inserts, one statement for each other kind."""
    made = plan(*many(delete(NOTES, 1), patch(NOTES, 2), update(NOTES, 3), patch(NOTES, 4)))
    assert brief(made.actions) == ["delete notes", "copy notes", "insert notes", "update notes"]
    copied = made.actions[1]
    assert isinstance(copied, Copy)
    assert len(list(copied.lines)) == SET_FORM_ROWS - 4
    ((_, staged),) = made.stages
    assert list(staged.lines) == [
        b"0\t1\t\\N\t\\N\n",
        b"1\t3\tx\tx\n",
        b"2\t2\tx\t\\N\n",
        b"2\t4\tx\t\\N\n",
    ]


def test_inserts_alone_are_not_staged() -> None:
    """They are copied straight into the table."""
    made = plan(*many())
    assert made.stages == []
    assert brief(made.actions) == ["copy notes"]


def test_patches_are_grouped_by_what_they_set() -> None:
    """One statement for each set of columns; it has to meet all of its rows."""
    other = Update(NOTES, None, False, (b"9", UNCHANGED, b"x"))
    made = plan(*many(patch(NOTES, 1), other, patch(NOTES, 2)))
    updates = [a for a in made.actions if not isinstance(a, Copy) and a.sql.startswith(b"update")]
    assert [update.rows for update in updates] == [2, 1]
    assert [b'set "body"' in update.sql for update in updates] == [True, False]


def test_ops_are_unique_across_segments_and_tables() -> None:
    """A stage serves all segments of a plan: no statement may meet the rows of another."""
    half = [update(NOTES, key) for key in range(SET_FORM_ROWS)]
    gone = [delete(SHARES, key) for key in range(SET_FORM_ROWS)]
    made = plan(*half, *gone, Truncate((OWNERS,), False, False), *half, *gone)
    used = [int(n) for a in made.actions for n in re.findall(rb'"cdc op" = (\d+)', a.sql)]
    assert len(used) == 4
    assert len(set(used)) == 4
    staged = [int(line.split(b"\t")[0]) for _, copy in made.stages for line in copy.lines]
    assert {op: staged.count(op) for op in used} == dict.fromkeys(used, SET_FORM_ROWS)


def test_tables_have_stages_of_their_own() -> None:
    """Two tables never share a temporary table."""
    rows = [update(table, key) for table in (NOTES, SHARES) for key in range(SET_FORM_ROWS)]
    stages = [statements.create_stage for statements, _ in plan(*rows).stages]
    assert len(set(stages)) == 2


# What the target has to have


def test_a_missing_table_is_refused() -> None:
    """The error names it and says what to do."""
    with pytest.raises(ChangeRefused, match=r"the target has no table credit\.notes") as caught:
        plan(insert(NOTES, 1), planner=Planner(catalog_of()))
    assert "create credit.notes" in caught.value.hint


def test_a_missing_table_that_is_emptied_is_refused_too() -> None:
    """A truncation names its tables as any change does."""
    with pytest.raises(ChangeRefused, match=r"the target has no table credit\.notes"):
        plan(Truncate((NOTES,), False, False), planner=Planner(catalog_of()))


def test_a_planner_knows_if_something_can_wait_for_the_commit() -> None:
    """Constraints are deferred only where there is one that can be."""
    assert not Planner(CATALOG).deferrable
    deferrable = catalog_table("notes", ["id"], deferrable=True)
    assert Planner(catalog_of(deferrable)).deferrable

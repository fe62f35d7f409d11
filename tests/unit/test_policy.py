"""Tables that keep deleted rows: the fold leaves what the messages would, one by one."""

from collections.abc import Callable
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.changes.batch import BatchBuilder
from cdc.changes.change import each_change
from cdc.changes.fold import Segment
from cdc.changes.policy import Policy, retain
from cdc.changes.relations import RelationCache, Table, identify
from cdc.wire.messages import UNCHANGED, Delete, Insert, Message, Relation, Row, Update
from tests.operations import TABLES, Operation, histories, op
from tests.tally import count
from tests.unit.model import KEYS, Cut, ModelSource, NamedRow, State
from tests.unit.model_target import ModelTarget
from tests.unit.shapes import relation
from tests.unit.test_fold import ORDERS, apply

MARKER = "deleted_at"


class RetainingTarget(ModelTarget):
    """Rows that may be there though the source has deleted them."""

    def patch(self, table: Table, key: Row, row: Row) -> None:
        """As on the real target: a row that is in the way of another's new key goes."""
        new_key = table.key_values(table.key_of(row))
        if new_key != key and key in self.rows[table.name]:
            self.rows[table.name].pop(new_key, None)
        super().patch(table, key, row)


class Reference:
    """What each single message of the source does to rows that are kept."""

    def __init__(self, policy: Policy) -> None:
        self.state: State = {("credit", shape.name): [] for shape in TABLES}
        self._soft = policy.deletes == "soft"
        self._relations: dict[int, Relation] = {}

    def take(self, message: Message) -> None:
        """Do what a message says."""
        match message:
            case Relation():
                self._relations[message.relation_id] = message
            case Insert(relation_id, new):
                self._remove(relation_id, new, only_key=True)
                self._write(relation_id, {}, new)
            case Update(relation_id, old, _, new):
                found = self._remove(relation_id, old or new)
                self._remove(relation_id, new, only_key=True)
                self._write(relation_id, found, new)
            case Delete(relation_id, old) if self._soft:
                found = self._remove(relation_id, old)
                rows, _ = self._find(relation_id)
                rows.append(found | {MARKER: b"marked"})

    def _find(self, relation_id: int) -> tuple[list[NamedRow], Table]:
        table = identify(self._relations[relation_id], KEYS)
        return self.state[table.name], table

    def _remove(self, relation_id: int, row: Row, *, only_key: bool = False) -> NamedRow:
        """Take away the row with this key; where there is no key, a live one that is equal."""
        rows, table = self._find(relation_id)
        named = dict(zip(table.columns, row, strict=True))
        if not table.key and only_key:
            return {}
        known_by = table.key_columns or (*table.columns, MARKER)
        for found in rows:
            if all(found.get(name) == named.get(name) for name in known_by):
                rows.remove(found)
                return found
        return {}

    def _write(self, relation_id: int, found: NamedRow, new: Row) -> None:
        rows, table = self._find(relation_id)
        pairs = zip(table.columns, new, strict=True)
        known = {name: value for name, value in pairs if value is not UNCHANGED}
        rows.append(found | known | {MARKER: None})


# Keys that are equal in other words are for the real servers (tests.integration).
plain = histories.map(lambda each: [o for o in each if TABLES[o.table].name != "number"])


@given(plain, st.sampled_from(["soft", "ignore"]))
@settings(max_examples=settings().max_examples * 50)
def test_fold_then_apply_keeps_what_the_messages_keep(
    operations: list[Operation], deletes: Literal["soft", "ignore"]
) -> None:
    """Deletes of any sequence, in any batches: marked or left, revived by what takes their key."""
    count("fold with kept rows", "examples")
    policy = Policy(deletes, truncate="ignore", marker=MARKER)
    policies = {("credit", shape.name): policy for shape in TABLES}
    source = ModelSource()
    builder = BatchBuilder(RelationCache(KEYS, policies))
    reference = Reference(policy)
    targets = [(order, RetainingTarget(source.state)) for order in ORDERS]
    for operation in [*operations, op("commit"), op("take")]:
        for message in source.run(operation):
            if not isinstance(message, Cut):
                reference.take(message)
                builder.add(message, 1)
                continue
            batch = builder.take()
            assert batch.changes == sum(1 for _ in each_change(batch.steps))
            for order, target in targets:
                apply(target, batch, order)
                expect(target, reference.state, order)


def expect(
    target: RetainingTarget, state: State, order: Callable[[ModelTarget, Segment], None]
) -> None:
    """Assert that a target holds what is to be kept; of marks, that they are there."""
    for rows in target.rows.values():
        for row in rows.values():
            if row.get(MARKER) is not None:
                row[MARKER] = b"marked"
    assert target.holds(state), order.__name__


SOFT = Policy("soft")


@pytest.mark.parametrize(
    ("commit_time", "text"),
    [
        (0, b"J2451545 00:00:00.000000+00"),
        (-1, b"J2451544 23:59:59.999999+00"),
        (86_400_000_000 + 3_723_000_004, b"J2451546 01:02:03.000004+00"),
    ],
)
def test_a_soft_delete_holds_the_time_of_the_commit(commit_time: int, text: bytes) -> None:
    """As a Julian date, before 2000 too; of the row it sets nothing else."""
    marked = retain(Delete(1, (b"7", None), False), SOFT, (0,), commit_time)
    assert marked == Update(1, (b"7", None, None), False, (b"7", UNCHANGED, text))


def test_a_marker_stands_behind_the_columns_of_the_source() -> None:
    """Under its name, as a timestamp with time zone."""
    table = identify(relation(1, "t", ["id", "note"]), {}, Policy("soft", marker="Gone"))
    assert table.columns == ("id", "note", "Gone")
    assert [column.type_oid for column in table.described] == [25, 25, 1184]
    assert len(table.relation.columns) == 2

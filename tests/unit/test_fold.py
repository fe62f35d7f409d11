"""The property that the product stands on: fold then apply == apply one by one.

A model source runs random transactions (tests.unit.model); what the builder makes of its messages
is applied to model targets in each order that is promised to be the same, and after each batch
every target has to hold what the source holds.
"""

from collections.abc import Callable
from itertools import product

from hypothesis import example, given, settings
from hypothesis import strategies as st

from cdc.changes.batch import Batch, BatchBuilder
from cdc.changes.fold import (
    KeyChange,
    Segment,
    TableChanges,
    Truncation,
    resolve,
)
from cdc.changes.relations import RelationCache
from cdc.wire.messages import UNCHANGED, Delete, Insert, Update
from tests.unit.model import KEYS, RELATIONS, ROWS, Kind, ModelSource, ModelTarget, Operation

# As often as they are here; PostgreSQL could send any of them at any time.
KINDS: list[Kind] = [
    *("announce", "commit", "take", "reshape", "truncate", "rekey", "rekey", "swap", "reinsert"),
    *("insert", "insert", "insert", "update", "update", "update", "update", "delete", "delete"),
]
OPERATIONS = [
    Operation(kind, table, row, other, keep, null)
    for kind, table, row, other, keep, null in product(
        KINDS, range(len(RELATIONS)), range(ROWS), range(ROWS), (True, False), (False, True)
    )
]


def read_history(code: bytes) -> list[Operation]:
    """Read two bytes as an operation: Hypothesis draws bytes evenly, and hundreds at once."""
    indices = [high << 8 | low for high, low in zip(code[::2], code[1::2], strict=False)]
    return [OPERATIONS[index % len(OPERATIONS)] for index in indices]


# Hypothesis likes them short; what goes wrong late needs long ones.
histories = st.one_of(
    st.binary(max_size=20).map(read_history),
    st.binary(min_size=80, max_size=160).map(read_history),
)
present = st.lists(
    st.sets(st.integers(0, ROWS - 1)), min_size=len(RELATIONS), max_size=len(RELATIONS)
)


def apply_upserts(target: ModelTarget, changes: TableChanges) -> None:
    """Write inserts and updates, as strictly as COPY and UPDATE on the real target."""
    for row in changes.inserts.values():
        target.insert(changes.table, row)
    for key, row in changes.updates.items():
        if UNCHANGED in row:
            target.patch(changes.table, changes.table.key_values(key), row)
        else:
            target.write(changes.table, row)


def apply_deletes(target: ModelTarget, changes: TableChanges) -> None:
    """Write deletes."""
    for key in changes.deletes:
        target.delete(changes.table, changes.table.key_values(key))


def deletes_first(target: ModelTarget, segment: Segment) -> None:
    """Write a segment as `target.plan` does for tables that nothing references."""
    for changes in segment.tables.values():
        apply_deletes(target, changes)
        apply_upserts(target, changes)


def deletes_last(target: ModelTarget, segment: Segment) -> None:
    """Write a segment as `target.plan` does for tables that others reference."""
    for changes in segment.tables.values():
        apply_upserts(target, changes)
    for changes in reversed(segment.tables.values()):
        apply_deletes(target, changes)


def one_by_one(target: ModelTarget, segment: Segment) -> None:
    """Write a segment's messages in source order, as `target.replay` does."""
    for message in segment.messages:
        table = segment.tables[message.relation_id].table
        match message:
            case Insert():
                target.write(table, message.new)
            case Update():
                key, _, new = resolve(message, table)
                target.patch(table, table.key_values(key), new)
            case Delete():
                target.delete(table, table.key_values(table.key_of(message.old)))


ORDERS = (deletes_first, deletes_last, one_by_one)


def apply(target: ModelTarget, batch: Batch, order: Callable[[ModelTarget, Segment], None]) -> None:
    """Write a batch's steps, the segments in this order."""
    for step in batch.steps:
        match step:
            case Segment():
                order(target, step)
            case KeyChange(table, old, new):
                target.patch(table, table.key_values(old), new)
            case Truncation(tables):
                for table in tables:
                    target.truncate(table)


def check_places(batch: Batch) -> None:
    """Each key is in at most one place, inserts are whole, and rows stand under their own keys."""
    for step in batch.steps:
        for changes in step.tables.values() if isinstance(step, Segment) else ():
            places = [*changes.inserts, *changes.updates, *changes.deletes]
            assert len(places) == len(set(places)), "a key in two places"
            assert all(UNCHANGED not in row for row in changes.inserts.values()), "not whole"
            for key, row in [*changes.inserts.items(), *changes.updates.items()]:
                assert changes.table.key_of(row) == key, "a row under another's key"


def op(kind: Kind, row: int = 0, other: int = 0, *, keep: bool = True) -> Operation:
    """An operation on the first table."""
    return Operation(kind, table=0, row=row, other=other, keep=keep, null=False)


@given(present, histories)
@settings(max_examples=settings().max_examples * 8)
@example([{1, 2}, set(), set()], [op("swap", 1, 2)])
@example(
    [{1}, set(), set()], [op("insert", 2), op("delete", 1), op("rekey", 2, 1), op("update", 1)]
)
@example([{1}, set(), set()], [op("rekey", 1, 2), op("take"), op("rekey", 2, 3), op("insert", 1)])
@example([set(), set(), set()], [op("insert", 1), op("rekey", 1, 2), op("insert", 1)])
@example([{1}, set(), set()], [op("update", 1), op("reshape"), op("update", 1), op("reinsert", 1)])
def test_fold_then_apply_is_apply_one_by_one(
    present: list[set[int]], operations: list[Operation]
) -> None:
    """After any batch of any transactions, each order of applying it leaves the source's rows."""
    source = ModelSource(present)
    builder = BatchBuilder(RelationCache(KEYS))
    targets = [(order, ModelTarget(source.state)) for order in ORDERS]
    sent = 0

    def take() -> None:
        nonlocal sent
        batch = builder.take()
        assert (batch.final, batch.size) == (not source.in_transaction, sent)
        sent = 0
        check_places(batch)
        for order, target in targets:
            apply(target, batch, order)
            assert target.holds(source.state), order.__name__

    for operation in operations:
        for message in source.run(operation):
            builder.add(message, 1)
            sent += 1
        if operation.kind == "take":
            take()
    for message in source.commit():
        builder.add(message, 1)
        sent += 1
    take()

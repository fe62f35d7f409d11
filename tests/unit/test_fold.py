"""The property that the product stands on: fold then apply == apply one by one.

A model source runs random transactions (tests.unit.model); what the builder makes of its messages
is applied to model targets in each order that is promised to be the same, and after each batch
every target has to hold what the source holds. tests/integration/test_fold.py has the same
operations run between real servers.
"""

from collections import Counter
from collections.abc import Callable
from functools import partial

from hypothesis import example, given, settings

from cdc.changes.batch import Batch, BatchBuilder
from cdc.changes.fold import (
    KeyChange,
    Segment,
    TableChanges,
    Truncation,
    WholeRowChange,
    resolve,
)
from cdc.changes.relations import QualifiedName, RelationCache
from cdc.wire.messages import UNCHANGED, Delete, Insert, Update
from tests.operations import Operation, histories, op
from tests.tally import count
from tests.unit.model import KEYS, Cut, ModelSource
from tests.unit.model_target import ModelTarget


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
    """Write a segment as `target.plan` does for tables that others reference.

    Not those whose equal keys may differ in text: there the plan asks for a replay.
    """
    if any(changes.table.name[1] == "number" for changes in segment.tables.values()):
        one_by_one(target, segment)
        return
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
            case WholeRowChange(table, old, new):
                target.change_whole(table, old, new)
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
                if changes.table.key:
                    assert changes.table.key_of(row) == key, "a row under another's key"


def check_tallies(batch: Batch) -> None:
    """What came is counted as often as it stands in the batch, and what is left as it is there."""
    came, left = Counter[QualifiedName](), Counter[QualifiedName]()
    for step in batch.steps:
        match step:
            case Segment():
                for message in step.messages:
                    came[step.tables[message.relation_id].table.name] += 1
                for changes in step.tables.values():
                    written = len(changes.inserts) + len(changes.updates)
                    left[changes.table.name] += written + len(changes.deletes)
            case KeyChange(table) | WholeRowChange(table):
                came[table.name] += 1
                left[table.name] += 1
            case Truncation(tables):
                came.update(table.name for table in tables)
                left.update(table.name for table in tables)
    assert {name: tally.received.total for name, tally in batch.tallies} == came
    assert {name: tally.net.total for name, tally in batch.tallies} == left


given_rows = partial(op, "insert")


@given(histories)
@settings(max_examples=settings().max_examples * 100)
@example([given_rows(1), given_rows(2), op("commit"), op("take"), op("swap", 1, 2)])
@example(
    [
        *(given_rows(1), op("commit"), op("take")),
        *(op("insert", 2), op("delete", 1), op("rekey", 2, 1), op("update", 1)),
    ]
)
@example(
    [
        *(given_rows(1), op("commit"), op("take")),
        *(op("rekey", 1, 2), op("take"), op("rekey", 2, 3), op("insert", 1)),
    ]
)
@example([op("insert", 1), op("rekey", 1, 2), op("insert", 1)])
@example(
    [
        *(given_rows(1), op("commit"), op("take")),
        *(op("update", 1), op("reshape"), op("update", 1), op("reinsert", 1)),
    ]
)
def test_fold_then_apply_is_apply_one_by_one(operations: list[Operation]) -> None:
    """After any batch of any transactions, each order of applying it leaves the source's rows."""
    count("fold, pure", "examples")
    source = ModelSource()
    builder = BatchBuilder(RelationCache(KEYS))
    targets = [(order, ModelTarget(source.state)) for order in ORDERS]
    sent = 0

    def take(cut: Cut) -> None:
        nonlocal sent
        batch = builder.take()
        assert (batch.final, batch.size) == (not cut.in_transaction, sent)
        sent = 0
        check_places(batch)
        check_tallies(batch)
        for order, target in targets:
            apply(target, batch, order)
            assert target.holds(cut.state), order.__name__

    for operation in [*operations, op("commit"), op("take")]:
        for message in source.run(operation):
            if isinstance(message, Cut):
                take(message)
            else:
                builder.add(message, 1)
                sent += 1

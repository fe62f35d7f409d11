"""Changes that wait: set aside and applied later, in their order, they leave the source's rows."""

from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.changes.batch import BatchBuilder
from cdc.changes.change import Change
from cdc.changes.fold import Truncation
from cdc.changes.held import Held, by_transaction, set_aside
from cdc.changes.relations import QualifiedName, RelationCache
from cdc.wire.messages import UNCHANGED, Row
from tests.operations import ROWS, TABLES, Operation, histories, op
from tests.tally import count
from tests.unit.model import KEYS, Cut, ModelSource
from tests.unit.model_target import ModelTarget
from tests.unit.test_fold import ORDERS, apply, check_places

IDENTITIES: list[tuple[QualifiedName, Row]] = [
    *((("credit", name), (b"%d" % n,)) for name in ("single", "full") for n in range(ROWS)),
    *((("credit", "composite"), (b"%d" % (n // 2), b"%d" % (n % 2))) for n in range(ROWS)),
    # What is equal in other words waits as a whole table does.
    *((("credit", name), ()) for name in ("number", "bag", "single")),
]
HISTORIES = histories.map(lambda each: [o for o in each if o.kind not in {"truncate", "take"}])


def write(target: ModelTarget, change: Change) -> None:
    """Apply one change, as strictly as the real target."""
    if not change.table.key and change.old is not None:
        target.change_whole(change.table, change.old, change.row)
    elif change.row is None:
        assert change.old is not None
        target.delete(change.table, change.old)
    elif change.old is None or (change.old == change.new and UNCHANGED not in change.row):
        target.write(change.table, change.row)
    else:
        target.patch(change.table, change.old, change.row)


@given(HISTORIES, st.lists(st.sampled_from(IDENTITIES), min_size=1, max_size=3))
@settings(max_examples=settings().max_examples * 50)
def test_what_waits_is_applied_later(
    operations: list[Operation], chosen: list[tuple[QualifiedName, Row]]
) -> None:
    """The rest first, in any order that is promised; then what waits, one by one.

    Each transaction keeps its share of the changes.
    """
    count("fold without what waits", "examples")
    source = ModelSource()
    builder = BatchBuilder(RelationCache(KEYS))
    targets = [(order, ModelTarget(source.state)) for order in ORDERS]
    held = Held()
    for name, row in chosen:
        if row:
            held.hold(name, [row], KEYS[name])
        else:
            held.tables.add(name)
    for operation in [*operations, op("commit")]:
        for message in source.run(operation):
            assert not isinstance(message, Cut)
            builder.add(message, 1)
    batch = builder.take()
    parts = set_aside(batch, held)
    assert parts is not None
    rest, waiting = parts
    check_places(rest)
    kept = [len(changes) for _, changes in by_transaction(rest)]
    every = [len(changes) for _, changes in by_transaction(batch)]
    assert len(kept) == len(every)
    assert sum(kept) + len(waiting) == sum(every) == batch.changes
    assert {one.lsn for one in waiting} <= {end.lsn for end in batch.transactions}
    for order, target in targets:
        apply(target, rest, order)
        for one in waiting:
            write(target, one.change)
        assert target.holds(source.state), order.__name__


def test_a_truncate_is_not_taken_apart() -> None:
    """It ends the waiting of its tables, which only a replay can do."""
    source = ModelSource()
    builder = BatchBuilder(RelationCache(KEYS))
    for operation in (op("truncate"), op("commit")):
        for message in source.run(operation):
            assert not isinstance(message, Cut)
            builder.add(message, 1)
    batch = builder.take()
    assert isinstance(batch.steps[0], Truncation)
    assert set_aside(batch, Held(tables={("credit", TABLES[0].name)})) is None

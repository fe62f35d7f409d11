"""Folding by example: where each kind of message leaves a row. The rule itself is in test_fold."""

from collections.abc import Sequence

import pytest

from cdc.changes.batch import Batch, BatchBuilder, TransactionEnd
from cdc.changes.fold import (
    KeyChange,
    Segment,
    TableChanges,
    Truncation,
    resolve,
)
from cdc.changes.relations import RelationCache, identify
from cdc.lsn import Lsn
from cdc.wire.messages import (
    UNCHANGED,
    Begin,
    Commit,
    Delete,
    Insert,
    LogicalMessage,
    Message,
    Origin,
    Row,
    Truncate,
    Type,
    Update,
)
from tests.unit.shapes import relation

ACCOUNTS = relation(1, "accounts", ["id", "note", "body"])
SHARES = relation(2, "shares", ["id", "note"])
FULL = relation(3, "schedules", ["id", "note", "body"], replica_identity="f")
PRIMARY_KEYS = {("credit", "schedules"): ("id",)}

BEGIN = Begin(Lsn(90), 7, 1)
COMMIT = Commit(Lsn(90), Lsn(100), 7)


def insert(key: bytes, note: bytes = b"new", body: bytes | None = b"long") -> Insert:
    """An Insert into accounts."""
    return Insert(1, (key, note, body))


def update(key: bytes, note: bytes, body: bytes | None = UNCHANGED) -> Update:
    """An Update of an account that leaves body alone, unless it is given."""
    return Update(1, None, False, (key, note, body))


def rekey(old: bytes, new: bytes, body: bytes = UNCHANGED) -> Update:
    """An Update of an account's key: the old tuple holds the key alone."""
    return Update(1, (old, None, None), False, (new, b"moved", body))


def delete(key: bytes) -> Delete:
    """A Delete of an account."""
    return Delete(1, (key, None, None), False)


def feed(builder: BatchBuilder, messages: Sequence[Message]) -> None:
    """Add messages, 10 bytes each."""
    for message in messages:
        builder.add(message, 10)


def fold(*changes: Message) -> Batch:
    """Fold one transaction."""
    builder = BatchBuilder(RelationCache(PRIMARY_KEYS))
    feed(builder, [BEGIN, ACCOUNTS, SHARES, FULL, *changes, COMMIT])
    return builder.take()


def net(batch: Batch, relation_id: int = 1) -> TableChanges:
    """The net changes of a table in a batch that is one segment."""
    (segment,) = batch.steps
    assert isinstance(segment, Segment)
    return segment.tables[relation_id]


# One row, one segment


@pytest.mark.parametrize(
    ("changes", "inserts", "updates", "deletes"),
    [
        pytest.param([insert(b"1")], {b"1": (b"1", b"new", b"long")}, {}, [], id="insert"),
        pytest.param(
            [update(b"1", b"a")], {}, {b"1": (b"1", b"a", UNCHANGED)}, [], id="update without TOAST"
        ),
        pytest.param([delete(b"1")], {}, {}, [b"1"], id="delete"),
        pytest.param(
            [insert(b"1"), update(b"1", b"a")],
            {b"1": (b"1", b"a", b"long")},
            {},
            [],
            id="an inserted row fills in what its update left alone",
        ),
        pytest.param(
            [update(b"1", b"a", b"body"), update(b"1", b"b")],
            {},
            {b"1": (b"1", b"b", b"body")},
            [],
            id="an update fills in what the next one left alone",
        ),
        pytest.param(
            [update(b"1", b"a"), update(b"1", b"b", None)],
            {},
            {b"1": (b"1", b"b", None)},
            [],
            id="NULL is a value, not the absence of one",
        ),
        pytest.param(
            [delete(b"1"), insert(b"1")],
            {},
            {b"1": (b"1", b"new", b"long")},
            [],
            id="deleted and inserted again: overwritten as a whole",
        ),
        pytest.param(
            [insert(b"1"), delete(b"1")], {}, {}, [b"1"], id="inserted and deleted: deleted"
        ),
        pytest.param(
            [update(b"1", b"a"), delete(b"1")], {}, {}, [b"1"], id="updated and deleted: deleted"
        ),
        pytest.param(
            [insert(b"1"), rekey(b"1", b"2")],
            {b"2": (b"2", b"moved", b"long")},
            {},
            [b"1"],
            id="an inserted row that changes its key is inserted with the new one",
        ),
        pytest.param(
            [delete(b"2"), insert(b"1"), rekey(b"1", b"2")],
            {},
            {b"2": (b"2", b"moved", b"long")},
            [b"1"],
            id="an inserted row that takes the key of a deleted one overwrites it",
        ),
    ],
)
def test_net_change_of_a_row(
    changes: list[Message],
    inserts: dict[bytes, Row],
    updates: dict[bytes, Row],
    deletes: list[bytes],
) -> None:
    """Whatever happens to a row in a segment leaves its key in one place."""
    batch = fold(*changes)
    found = net(batch)
    assert (found.inserts, found.updates, list(found.deletes)) == (inserts, updates, deletes)
    (segment,) = batch.steps
    assert isinstance(segment, Segment)
    assert segment.messages == changes


# What starts a new segment


def test_a_key_change_stands_between_segments() -> None:
    """A row that the target has keeps the TOAST values that only the target knows."""
    batch = fold(insert(b"8"), rekey(b"1", b"2"), update(b"2", b"a"))
    first, change, second = batch.steps
    assert isinstance(first, Segment)
    assert isinstance(change, KeyChange)
    assert isinstance(second, Segment)
    assert (change.old, change.new) == (b"1", (b"2", b"moved", UNCHANGED))
    assert first.messages == [insert(b"8")], "the key change is not replayed twice"
    assert second.messages == [update(b"2", b"a")]
    assert batch.changes == 3


def test_a_key_change_after_an_update_keeps_what_the_update_set() -> None:
    """An update is written before the key that it was made under is gone."""
    first, change = fold(update(b"1", b"a", b"body"), rekey(b"1", b"2")).steps
    assert isinstance(first, Segment)
    assert first.tables[1].updates == {b"1": (b"1", b"a", b"body")}
    assert isinstance(change, KeyChange)


def test_a_truncation_stands_between_segments() -> None:
    """What was written before a TRUNCATE is emptied by it, what comes after is not."""
    batch = fold(insert(b"1"), Truncate((1, 2), True, True), insert(b"1"))
    first, truncation, second = batch.steps
    assert isinstance(first, Segment)
    assert isinstance(truncation, Truncation)
    assert isinstance(second, Segment)
    assert [str(table) for table in truncation.tables] == ["credit.accounts", "credit.shares"]
    assert truncation.restart_identity
    assert batch.changes == 3


def test_a_changed_shape_starts_a_segment() -> None:
    """Rows of two shapes never meet in one statement."""
    wider = relation(1, "accounts", ["id", "note", "body", "more"])
    before, after = fold(insert(b"1"), wider, Insert(1, (b"2", b"a", b"b", b"c"))).steps
    assert isinstance(before, Segment)
    assert isinstance(after, Segment)
    assert len(before.tables[1].table.columns) == 3
    assert len(after.tables[1].table.columns) == 4


def test_a_repeated_shape_starts_none() -> None:
    """The server repeats Relation messages after ANALYZE, say: one segment all the same."""
    assert list(net(fold(insert(b"1"), ACCOUNTS, insert(b"2"))).inserts) == [b"1", b"2"]


def test_tables_share_a_segment() -> None:
    """Changes of several tables are net changes of one segment, in whatever order they came."""
    batch = fold(insert(b"1"), Insert(2, (b"1", b"x")), insert(b"2"))
    assert list(net(batch, 1).inserts) == [b"1", b"2"]
    assert list(net(batch, 2).inserts) == [b"1"]


# Old tuples


def test_the_old_row_fills_in_unchanged_values() -> None:
    """Under REPLICA IDENTITY FULL the old tuple has the TOAST value that the new one leaves out."""
    change = Update(3, (b"1", b"a", b"long"), True, (b"2", b"b", UNCHANGED))
    assert resolve(change, identify(FULL, PRIMARY_KEYS)) == (b"1", b"2", (b"2", b"b", b"long"))


def test_a_toasted_key_is_read_from_the_old_key() -> None:
    """A key so long that it is stored as TOAST is sent as the old key, and left out of the new."""
    change = Update(1, (b"1", None, None), False, (UNCHANGED, b"a", UNCHANGED))
    key = (b"1", b"1", (b"1", b"a", UNCHANGED))
    assert resolve(change, identify(ACCOUNTS, {})) == key


def test_an_old_key_says_nothing_of_other_values() -> None:
    """NULL in an old key means "not sent": it never overwrites a value."""
    change = Update(1, (b"1", None, None), False, (b"2", b"a", UNCHANGED))
    assert resolve(change, identify(ACCOUNTS, {}))[2] == (b"2", b"a", UNCHANGED)


# The batch


def test_a_batch_knows_its_commits() -> None:
    """The checkpoint is the last Commit's end; each transaction's share of the changes is known."""
    builder = BatchBuilder(RelationCache({}))
    feed(builder, [BEGIN, ACCOUNTS, insert(b"1"), insert(b"2"), COMMIT])
    feed(builder, [Begin(Lsn(110), 8, 2), delete(b"1"), Commit(Lsn(110), Lsn(120), 8)])
    assert (builder.changes, builder.size) == (3, 80)
    batch = builder.take()
    assert batch.final
    first, second = batch.transactions
    assert (first.changes, first.lsn) == (2, Lsn(100))
    assert second == TransactionEnd(3, Lsn(120), 8)
    assert batch.end_lsn == Lsn(120)
    assert (batch.changes, batch.size) == (3, 80)


def test_taking_leaves_nothing_behind() -> None:
    """What was taken is not in the next batch, and the shapes of tables are still known."""
    builder = BatchBuilder(RelationCache({}))
    feed(builder, [BEGIN, ACCOUNTS, insert(b"1"), COMMIT])
    builder.take()
    assert (builder.changes, builder.size) == (0, 0)
    feed(builder, [BEGIN, delete(b"1"), COMMIT])
    assert list(net(builder.take()).deletes) == [b"1"]


def test_a_batch_taken_inside_a_transaction_is_not_final() -> None:
    """A piece of a large transaction says that more is to come; the last piece is final."""
    builder = BatchBuilder(RelationCache({}))
    feed(builder, [BEGIN, ACCOUNTS, insert(b"1")])
    piece = builder.take()
    assert (piece.final, piece.transactions) == (False, [])
    assert piece.open_lsn == BEGIN.final_lsn
    feed(builder, [insert(b"2"), COMMIT])
    last = builder.take()
    assert last.final
    assert [(end.changes, end.lsn) for end in last.transactions] == [(1, Lsn(100))]


def test_the_end_of_a_transaction_whose_changes_were_all_taken_is_work() -> None:
    """A piece that ended with the last change: the target still has a transaction to commit."""
    builder = BatchBuilder(RelationCache({}))
    assert not builder.has_work
    feed(builder, [BEGIN, ACCOUNTS, insert(b"1")])
    builder.take()
    feed(builder, [COMMIT])
    assert (builder.changes, builder.has_work) == (0, True)
    end = builder.take()
    assert (end.final, end.end_lsn, end.steps) == (True, Lsn(100), [])
    assert not builder.has_work


def test_transactions_that_change_nothing_leave_nothing() -> None:
    """Types, origins and logical messages reach no target, and take no memory, however many."""
    mark = LogicalMessage(False, Lsn(1), "cdc", b"mark")
    batch = fold(Type(7, "credit", "status"), Origin(Lsn(1), "node"), mark)
    # The Commit itself is counted where the next batch begins.
    assert (batch.steps, batch.changes, batch.size, batch.transactions) == ([], 0, 10, [])
    builder = BatchBuilder(RelationCache({}))
    feed(builder, [BEGIN, ACCOUNTS, insert(b"1"), COMMIT])
    for n in range(5):
        feed(builder, [BEGIN, mark, Commit(Lsn(100), Lsn(200 + n), 8)])
    assert builder.take().transactions == [TransactionEnd(1, Lsn(204), 8)]

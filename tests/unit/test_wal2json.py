"""Lines of wal2json become the messages that pgoutput would have sent."""

from collections.abc import Sequence

import pytest

from cdc.lsn import Lsn
from cdc.wire.layout import Shape
from cdc.wire.messages import (
    UNCHANGED,
    Begin,
    Column,
    Commit,
    Delete,
    Insert,
    LogicalMessage,
    Message,
    Relation,
    Truncate,
    Update,
)
from cdc.wire.wal2json import Decoder, ShapeUnknown
from tests.unit.lines import (
    INTEGER,
    STAMP_US,
    TEXT,
    Sent,
    begin,
    change,
    commit,
    message,
    shape,
    shape_column,
)

ID = shape_column("id", 1, oid=INTEGER, key=True)
NOTE = shape_column("note", 2, toastable=True)
TWICE = shape_column("twice", 3, oid=INTEGER, generated=True)
SHAPE = shape(ID, NOTE)

LATER = Lsn(0x200)


def identity(value: bytes) -> Sent:
    """Give the key column of a line."""
    return Sent("id", value, INTEGER)


def note(value: bytes | None, number: int = 2, name: str = "note") -> Sent:
    """Give the other column of a line."""
    return Sent(name, value, number=number)


def decoder(known: Shape = SHAPE) -> Decoder:
    """Give a decoder inside a transaction, that knows `credit.t`."""
    made = Decoder()
    made.learn("credit", "t", known, LATER)
    made.decode(begin())
    return made


def decode(payload: bytes, known: Shape = SHAPE) -> Sequence[Message]:
    """Decode one line of a table that is known."""
    return decoder(known).decode(payload)


def relation(*columns: Column, identity: str = "d") -> Relation:
    """Give the relation that a decoder numbers first."""
    return Relation(1, "credit", "t", identity, columns)


KEY = Column("id", is_key=True, type_oid=INTEGER, type_modifier=-1)
PLAIN = Column("note", is_key=False, type_oid=TEXT, type_modifier=-1)
WHOLE = relation(KEY, PLAIN)


def test_a_transaction_has_the_commits_position_and_time() -> None:
    """Begin has the LSN of the commit record, Commit its end; both the time in µs since 2000."""
    decoded = [*Decoder().decode(begin("16/B374D848")), *Decoder().decode(commit("0/100", "1/0"))]
    assert decoded == [
        Begin(Lsn(0x16B374D848), STAMP_US, 0),
        Commit(Lsn(0x100), Lsn(1 << 32), STAMP_US),
    ]


def test_an_insert_comes_after_its_relation() -> None:
    """The key is the primary key that the line tells; types are the line's."""
    assert decode(change("I", [identity(b"1"), note(b"x")])) == [WHOLE, Insert(1, (b"1", b"x"))]


def test_a_relation_is_sent_once_for_a_shape() -> None:
    """Again only where columns, types or key are others."""
    made = decoder()
    first = change("I", [identity(b"1"), note(None)])
    assert [type(m) for m in made.decode(first)] == [Relation, Insert]
    assert [type(m) for m in made.decode(first)] == [Insert]
    other = change("I", [identity(b"1"), Sent("note", b"1", INTEGER, 2)])
    assert [type(m) for m in made.decode(other)] == [Relation, Insert]
    assert [type(m) for m in made.decode(other)] == [Insert]
    assert [type(m) for m in made.decode(change("I", [identity(b"1")]))] == [Relation, Insert]


def test_an_update_of_the_same_key_has_no_old_row() -> None:
    """wal2json always sends the identity; pgoutput only where it changed."""
    payload = change("U", [identity(b"1"), note(b"x")], [identity(b"1")])
    assert decode(payload)[1:] == [Update(1, None, old_is_full=False, new=(b"1", b"x"))]


def test_an_update_of_the_key_has_the_old_key() -> None:
    """The other values of the old row are None, as pgoutput's are null."""
    payload = change("U", [identity(b"2"), note(b"x")], [identity(b"1")])
    assert decode(payload)[1:] == [Update(1, (b"1", None), old_is_full=False, new=(b"2", b"x"))]


def test_a_column_that_may_be_toast_is_unchanged_where_it_is_missing() -> None:
    """In its place among the others, with the type that the catalog has."""
    payload = change("U", [identity(b"1")], [identity(b"1")])
    assert decode(payload) == [WHOLE, Update(1, None, old_is_full=False, new=(b"1", UNCHANGED))]


def test_a_key_that_is_toast_comes_with_the_old_row() -> None:
    """The new row lacks it, the identity has it."""
    known = shape(shape_column("id", 1, key=True, toastable=True), NOTE)
    payload = change("U", [note(b"x")], [Sent("id", b"k")])
    assert decode(payload, known)[1:] == [
        Update(1, (b"k", None), old_is_full=False, new=(UNCHANGED, b"x"))
    ]


def test_a_column_that_the_catalog_lacks_is_gone() -> None:
    """It is not taken for a value that stays."""
    payload = change("U", [identity(b"1")], [identity(b"1")])
    assert decode(payload, shape(ID)) == [
        relation(KEY),
        Update(1, None, old_is_full=False, new=(b"1",)),
    ]


def test_a_column_that_had_another_name_is_not_missing() -> None:
    """The number tells: what the catalog calls `note` now was sent under its name of the time."""
    payload = change("U", [identity(b"1"), note(b"x", name="remark")], [identity(b"1")])
    assert decode(payload)[1:] == [Update(1, None, old_is_full=False, new=(b"1", b"x"))]


def test_a_column_that_came_later_is_in_no_insert() -> None:
    """An Insert has all its columns, whatever the catalog has by now."""
    assert decode(change("I", [identity(b"1")])) == [relation(KEY), Insert(1, (b"1",))]


def test_generated_columns_are_left_out() -> None:
    """As pgoutput leaves them out: the target computes its own."""
    known = shape(ID, NOTE, TWICE)
    payload = change("I", [identity(b"1"), note(b"x"), Sent("twice", b"2", INTEGER, 3)])
    assert decode(payload, known) == [WHOLE, Insert(1, (b"1", b"x"))]


def test_a_column_of_a_generated_ones_name_is_not_left_out() -> None:
    """It is another column, which was dropped since: the number tells."""
    known = shape(ID, NOTE, shape_column("twice", 4, oid=INTEGER, generated=True))
    payload = change("I", [identity(b"1"), note(b"x"), Sent("twice", b"2", INTEGER, 3)])
    assert decode(payload, known)[1:] == [Insert(1, (b"1", b"x", b"2"))]


def test_a_whole_row_as_identity() -> None:
    """Under REPLICA IDENTITY FULL every column is key, and the old row is there, without TOAST."""
    known = shape(ID, NOTE, TWICE, identity="f")
    old = [identity(b"1"), note(b"long"), Sent("twice", b"2", INTEGER)]
    made = decoder(known)
    updated = made.decode(change("U", [identity(b"1"), Sent("twice", b"2", INTEGER, 3)], old))
    columns = (KEY, Column("note", is_key=True, type_oid=TEXT, type_modifier=-1))
    assert updated == [
        relation(*columns, identity="f"),
        Update(1, (b"1", b"long"), old_is_full=True, new=(b"1", UNCHANGED)),
    ]
    assert made.decode(change("D", None, old)) == [Delete(1, (b"1", b"long"), old_is_full=True)]


def test_an_identity_of_another_time_is_the_lines() -> None:
    """Whatever the catalog says by now: a key while it says FULL, a whole row while it does not."""
    key, whole = [identity(b"1")], [identity(b"1"), note(b"x")]
    full = shape(ID, NOTE, identity="f")
    updated = decode(change("U", whole, key), full)
    assert updated == [WHOLE, Update(1, None, old_is_full=False, new=(b"1", b"x"))]
    (sent, update) = decode(change("U", whole, whole))
    assert isinstance(sent, Relation)
    assert sent.replica_identity == "f"
    assert update == Update(1, (b"1", b"x"), old_is_full=True, new=(b"1", b"x"))


def test_a_delete_has_the_key_in_the_shape_that_was_sent() -> None:
    """Without one it has a shape of its own, of the key alone."""
    made = decoder()
    gone = change("D", None, [identity(b"1")])
    assert made.decode(gone) == [relation(KEY), Delete(1, (b"1",), old_is_full=False)]
    made.decode(change("I", [identity(b"1"), note(b"x")]))
    assert made.decode(gone) == [Delete(1, (b"1", None), old_is_full=False)]


def test_the_key_of_an_insert_is_that_of_its_time() -> None:
    """A key that is narrower by now would take two rows for one."""
    columns = [identity(b"1"), note(b"x")]
    (sent, _) = decode(change("I", columns, pk=("id", "note")))
    assert isinstance(sent, Relation)
    assert [column.is_key for column in sent.columns] == [True, True]


@pytest.mark.parametrize(("pk", "keys"), [(("id",), [False, True]), ((), [False, True])])
def test_an_index_that_is_the_identity_is_the_key(pk: tuple[str, ...], keys: list[bool]) -> None:
    """The primary key is not what Updates and Deletes come with."""
    known = shape(shape_column("id", 1), shape_column("note", 2, key=True), identity="i")
    (sent, _) = decode(change("I", [identity(b"1"), note(b"x")], pk=pk), known)
    assert isinstance(sent, Relation)
    assert [column.is_key for column in sent.columns] == keys
    assert sent.replica_identity == "i"


def test_truncates_in_a_row_are_one() -> None:
    """A table that another refers to cannot be truncated alone."""
    made = decoder()
    made.learn("credit", "u", SHAPE, LATER)
    first = made.decode(change("T"))
    second = made.decode(change("T", table="u"))
    again = made.decode(change("T"))
    assert [type(m) for m in (*first, *second, *again)] == [Relation, Relation]
    assert list(made.decode(commit())) == [
        Truncate((1, 2), cascade=False, restart_identity=False),
        Commit(Lsn(0x100), Lsn(0x130), STAMP_US),
    ]
    assert [type(m) for m in made.decode(begin())] == [Begin]


def test_a_partitioned_tables_truncate_is_that_of_its_partitions() -> None:
    """Each of them has a line of its own."""
    assert decode(change("T"), Shape(partitioned=True)) == []


@pytest.mark.parametrize("transactional", [True, False])
def test_a_logical_message(*, transactional: bool) -> None:
    """Prefix and content, inside a transaction or outside."""
    assert Decoder().decode(message("Ärger\n", transactional=transactional)) == [
        LogicalMessage(transactional, Lsn(0x90), "cdc", "Ärger\n".encode())
    ]


@pytest.mark.parametrize(
    "payload",
    [
        change("I", [identity(b"1")]),
        change("U", [identity(b"1")], [identity(b"1")]),
        change("D", None, [identity(b"1")]),
        change("T"),
    ],
)
def test_a_line_needs_a_shape_that_is_newer(payload: bytes) -> None:
    """One read before the transaction was committed does not do, one read after it does."""
    made = Decoder()
    made.decode(begin("0/100"))
    for lsn in (Lsn(0x50), Lsn(0x100)):
        with pytest.raises(ShapeUnknown) as unknown:
            made.decode(payload)
        assert (unknown.value.schema, unknown.value.table) == ("credit", "t")
        made.learn("credit", "t", SHAPE, lsn)
    made.learn("credit", "t", SHAPE, Lsn(0x101))
    assert made.decode(payload)
    made.decode(begin("0/101"))
    with pytest.raises(ShapeUnknown):
        made.decode(payload)


def test_a_line_that_was_unknown_leaves_no_trace() -> None:
    """What was held for it is still there when it is decoded again."""
    made = decoder()
    made.decode(change("T"))
    payload = change("D", None, [identity(b"1")], table="u")
    with pytest.raises(ShapeUnknown):
        made.decode(payload)
    made.learn("credit", "u", SHAPE, LATER)
    assert [type(m) for m in made.decode(payload)] == [Truncate, Relation, Delete]


def test_a_table_that_is_gone_is_what_it_was() -> None:
    """The catalog has nothing to say any more; what it said last still counts."""
    made = decoder()
    made.decode(begin("0/300"))
    made.learn("credit", "t", None, Lsn(0x400))
    payload = change("U", [identity(b"1")], [identity(b"1")])
    assert made.decode(payload)[1:] == [Update(1, None, old_is_full=False, new=(b"1", UNCHANGED))]

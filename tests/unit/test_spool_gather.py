"""Frames into records: whole transactions together, large ones piece by piece."""

from cdc.lsn import Lsn
from cdc.sync.spool import gather
from cdc.sync.spool.gather import Gather
from cdc.sync.spool.record import Record, pack, unpack
from cdc.wire.messages import Begin, Column, Commit, Insert, Message, Relation
from cdc.wire.replication import PrimaryKeepalive, XLogData, encode_primary_keepalive
from tests.unit.encode import encode, encode_frame

RELATION = Relation(1, "credit", "t", "d", (Column("id", True, 23, -1),))


def frame(message: Message) -> bytes:
    """Give a message as it comes."""
    return encode_frame(XLogData(Lsn(0), Lsn(0), 0, encode(message)))


def transaction(commit: int, *changes: Message) -> list[bytes]:
    """Give a transaction whose commit record lies at an LSN, and ends ten bytes later."""
    end = Commit(Lsn(commit), Lsn(commit + 10), 0)
    return [frame(message) for message in (Begin(Lsn(commit), 0, 1), *changes, end)]


def insert(value: bytes = b"1") -> Insert:
    """Give a change."""
    return Insert(1, (value,))


def taken(gathered: Gather, *frames: bytes) -> list[Record]:
    """Give what comes out after some frames."""
    for one in frames:
        assert not gathered.add(one)
    return gathered.take()


def test_whole_transactions_come_as_one_record() -> None:
    """As they came, with the end of the last Commit; and once."""
    first, second = transaction(200, RELATION, insert()), transaction(300, insert())
    gathered = Gather(Lsn(100))
    (record,) = taken(gathered, *first, *second)
    assert record == Record(first + second, Lsn(310), 2, {1: first[1]})
    assert gathered.upto == 310
    assert gathered.take() == []


def test_a_transaction_that_is_not_whole_waits() -> None:
    """What is before it is given out, and does not stand for it."""
    first, second = transaction(200, insert()), transaction(300, RELATION, insert())
    gathered = Gather(Lsn(100))
    (record,) = taken(gathered, *first, *second[:-1])
    assert (record.frames, record.end_lsn, record.shapes) == (first, 210, {})
    assert gathered.upto == 210
    (record,) = taken(gathered, second[-1])
    assert record == Record(second, Lsn(310), 1, {1: second[1]})


def test_a_large_transaction_comes_in_pieces() -> None:
    """Pieces have no end, and what is held does not move before the Commit."""
    large = transaction(200, *(insert(b"x" * 1000) for _ in range(3000)))
    gathered = Gather(Lsn(100))
    records = []
    for one in large:
        records += taken(gathered, one)
        assert sum(map(len, gathered._frames)) <= gather.PIECE_BYTES + 2000  # noqa: SLF001
    assert [record.end_lsn for record in records] == [0, 0, 210]
    assert [f for record in records for f in record.frames] == large
    assert gathered.upto == 210


def test_what_is_known_is_left_out_but_for_shapes() -> None:
    """A transaction sent again is not stored again; the shapes in it hold for what follows."""
    known, new = transaction(90, RELATION, insert()), transaction(200, insert())
    (record,) = taken(Gather(Lsn(100)), *known, *new)
    assert record.frames == [known[1], *new]
    assert record.shapes == {1: known[1]}
    assert record.transactions == 1


def test_a_keepalive_counts_between_transactions_only() -> None:
    """Inside of one it may lie beyond the Commit that has not come."""
    gathered = Gather(Lsn(100))
    begin, *rest = transaction(200, insert())
    assert taken(gathered, encode_primary_keepalive(Lsn(150)), begin) == []
    assert gathered.upto == 150
    gathered.add(encode_primary_keepalive(Lsn(400)))
    assert gathered.upto == 150
    taken(gathered, *rest)
    assert gathered.upto == 210
    assert gathered.add(encode_frame(PrimaryKeepalive(Lsn(220), 0, reply_requested=True)))
    assert gathered.upto == 220


def test_frames_are_unpacked_as_they_were() -> None:
    """Empty ones too."""
    frames = [b"", b"a", b"\0" * 300, b""]
    assert list(unpack(pack(frames))) == frames

"""What is received until a batch is handed over: whole transactions, as far as they fit."""

import pytest

from cdc.changes.relations import RelationCache
from cdc.lsn import Lsn
from cdc.progress import Progress
from cdc.settings import ApplySettings
from cdc.sync.decoding import Decoding
from cdc.sync.hold import Hold
from cdc.sync.receiver import Receiver
from cdc.wire.messages import Begin, Column, Commit, Insert, Message, Relation
from cdc.wire.replication import XLogData
from tests.unit.encode import encode, encode_frame

LIMIT = 10


def frame(message: Message) -> bytes:
    """Give a message as it comes."""
    return encode_frame(XLogData(Lsn(0), Lsn(0), 0, encode(message)))


def handed_over(*sizes: int) -> list[tuple[int, bool]]:
    """Receive transactions of so many rows; give the changes of each batch, and if it is whole."""
    progress = Progress(Lsn(1), Lsn(1), Lsn(1))
    receiver = Receiver(
        Decoding().decode,
        RelationCache({}),
        progress,
        Hold(),
        ApplySettings(max_rows=LIMIT),
        reply=lambda: None,
        heard=lambda _: None,
    )
    frames = [frame(Relation(1, "credit", "t", "d", (Column("id", True, 23, -1),)))]
    number = 0
    for n, size in enumerate(sizes, 1):
        frames.append(frame(Begin(Lsn(n * 10), 0, n)))
        for _ in range(size):
            number += 1
            frames.append(frame(Insert(1, (b"%d" % number,))))
        frames.append(frame(Commit(Lsn(n * 10), Lsn(n * 10 + 5), 0)))
    batches = []
    frames.reverse()
    while frames:
        if receiver.take_in(frames):
            batch = receiver.take()
            batches.append((batch.changes, batch.final))
    return batches


@pytest.mark.parametrize(
    ("sizes", "batches"),
    [
        pytest.param([3, 3, 3, 3], [(6, True), (6, True)], id="where the next might not fit"),
        pytest.param([1, 1, 1], [], id="less waits for more"),
        pytest.param([4, 6], [(4, True), (6, True)], id="however large it is"),
        pytest.param([25, 1], [(10, False), (10, False), (5, True)], id="a large one in parts"),
    ],
)
def test_a_batch_ends_where_a_transaction_does(
    sizes: list[int], batches: list[tuple[int, bool]]
) -> None:
    """Cut within one, the target's would stay open until one ends where a batch does."""
    assert handed_over(*sizes) == batches

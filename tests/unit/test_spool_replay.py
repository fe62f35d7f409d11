"""The spool read like a slot's stream."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdc.lsn import INVALID, Lsn
from cdc.sync.position import Held
from cdc.sync.spool import replay
from cdc.sync.spool.record import Record
from cdc.sync.spool.replay import Replay
from cdc.sync.spool.store import Store
from cdc.sync.spool.thread import OneThread
from cdc.wire.replication import PrimaryKeepalive, decode_frame
from tests.unit.test_spool_store import make, whole


@pytest.fixture
def thread() -> Iterator[OneThread]:
    """The thread of a file."""
    made = OneThread()
    yield made
    made.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Three records, the second of which changes a shape."""
    store = make(tmp_path)
    shapes: tuple[dict[int, bytes], ...] = ({1: b"shape 1"}, {1: b"shape 2"}, {})
    records = [whole(b"%d" % n, end=101 + n, shapes=shapes[n]) for n in range(3)]
    store.append(records, Lsn(105))
    yield store
    store.close()


def tell(stream: Replay, lsn: int) -> None:
    """Say what the target has committed."""
    stream.send_status(received=Lsn(lsn), flushed=Lsn(lsn), applied=Lsn(lsn))


async def test_all_records_in_order_then_the_end(store: Store, thread: OneThread) -> None:
    """Told that nothing more comes, it ends with a keepalive at what the spool stands for."""
    stream = Replay(store, thread, asyncio.Event())
    assert [await stream.receive() for _ in range(3)] == [[b"0"], [b"1"], [b"2"]]
    stream.end()
    (last,) = await stream.receive()
    assert decode_frame(last) == PrimaryKeepalive(Lsn(105), 0, reply_requested=False)


async def test_waits_for_what_is_still_to_come(store: Store, thread: OneThread) -> None:
    """When it has caught up it says so; what is appended then is read too."""
    appended = asyncio.Event()
    stream = Replay(store, thread, appended)
    for _ in range(3):
        await stream.receive()
    waiting = asyncio.create_task(stream.receive())
    await stream.caught_up.wait()
    await thread.run(store.append, [Record([b"piece"], INVALID, 0)], Lsn(105))
    appended.set()
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await thread.run(store.append, [whole(b"rest", end=110)], Lsn(110))
    appended.set()
    assert await waiting == [b"piece"]
    assert await stream.receive() == [b"rest"]


async def test_what_is_committed_is_forgotten_in_lots(
    store: Store, thread: OneThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before it is worth the writing, at the end all of it; never what is not committed."""
    stream = Replay(store, thread, asyncio.Event())
    await stream.receive()
    tell(stream, 101)
    await stream.receive()
    assert store.first == 1
    monkeypatch.setattr(replay, "FORGET_BYTES", 1)
    await stream.receive()
    assert store.first == 2
    assert store.held == Held(Lsn(101), Lsn(105))
    await stream.finish()
    assert store.first == 2
    tell(stream, 105)
    await stream.finish()
    assert store.empty


async def test_a_reader_that_begins_in_the_middle_has_the_shapes(
    store: Store, thread: OneThread
) -> None:
    """Those in force there, before anything else: not older ones, nor newer ones."""
    store.forget(1, store.held.upto)
    stream = Replay(store, thread, asyncio.Event())
    assert await stream.receive() == [b"shape 1"]
    assert await stream.receive() == [b"1"]
    store.forget(2, store.held.upto)
    stream = Replay(store, thread, asyncio.Event())
    assert await stream.receive() == [b"shape 2"]
    assert await stream.receive() == [b"2"]

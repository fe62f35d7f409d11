"""The spool's file: what is appended comes back, in order, after any restart; or says why not."""

import os
import shutil
import sqlite3
import stat
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cdc.assure.spooled import peek
from cdc.errors import SettingsError, SpoolFailed
from cdc.lsn import INVALID, Lsn
from cdc.settings import Settings
from cdc.sync.position import Held
from cdc.sync.spool.file import create_file, store_path
from cdc.sync.spool.record import Record
from cdc.sync.spool.store import Store
from cdc.target.checkpoint import SlotIdentity
from cdc.wire.messages import Begin
from cdc.wire.replication import XLogData
from tests.unit.encode import encode, encode_frame

IDENTITY = SlotIdentity("cdc_credit", "7300000000000000001", 1, "postgres")
KEY = "a key of more than sixteen letters"
START = Lsn(100)


def make(folder: Path, key: str | None = None) -> Store:
    """Make the spool of a slot whose target stands at 100."""
    path = store_path(folder, IDENTITY)
    create_file(path, IDENTITY, key, START)
    return Store(path, IDENTITY, key)


def whole(*frames: bytes, end: int, shapes: dict[int, bytes] | None = None) -> Record:
    """A record of one whole transaction."""
    return Record(list(frames), Lsn(end), 1, shapes or {})


def frames_in(store: Store) -> list[bytes]:
    """Read all that a reader is given."""
    frames: list[bytes] = []
    number = store.first
    while (record := store.read(number)) is not None:
        frames += record.frames
        number += 1
    return frames


def test_a_transaction_of_which_a_part_has_come(tmp_path: Path) -> None:
    """Is queued: counted, beside the daemon too, and as old as its Begin says."""
    store = make(tmp_path, KEY)
    here = Settings.model_validate({"state": {"dir": tmp_path}})
    assert (store.begins(), store.unfinished, peek(here)) == (None, False, None)
    begin = encode_frame(XLogData(START, START, 0, encode(Begin(Lsn(200), 7_000, 1))))
    store.append([Record([begin, b"w" + bytes(30)], INVALID, 0)], START)
    assert (store.begins(), store.unfinished) == (7_000, True)
    queued = peek(here)
    assert queued is not None
    assert (queued.transactions, queued.bytes) == (1, store.size)
    store.append([whole(b"the rest", end=210)], Lsn(210))
    assert (store.begins(), store.unfinished, store.transactions) == (7_000, False, 1)
    queued = peek(here)
    assert queued is not None
    assert queued.transactions == 1
    store.forget(store.last, Lsn(210))
    assert (store.begins(), store.unfinished, peek(here)) == (None, False, None)


# A list as the model


class AgainstList(RuleBasedStateMachine):
    """Appends, forgets, restarts and cut off transactions, against a list of records."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.records: list[Record] = []
        self.forgotten_shapes: dict[int, bytes] = {}
        self.held = Held(START, START)

    @initialize(key=st.sampled_from([None, None, None, KEY]))
    def begin(self, key: str | None) -> None:
        """An empty spool, with or without a key."""
        self.key = key
        self.store = make(self.folder, key)

    @rule(
        frames=st.lists(st.binary(max_size=300), max_size=5),
        step=st.integers(1, 50),
        shapes=st.dictionaries(st.integers(1, 3), st.binary(max_size=9)),
    )
    def append(self, frames: list[bytes], step: int, shapes: dict[int, bytes]) -> None:
        """Whole transactions are durable up to their end."""
        end = Lsn(self.held.upto + step)
        record = Record(frames, end, 2, shapes)
        self.store.append([record], end)
        self.records.append(record)
        self.held = Held(self.held.after, end)

    @rule(frame=st.binary(max_size=300), shapes=st.dictionaries(st.just(1), st.binary(max_size=9)))
    def append_piece(self, frame: bytes, shapes: dict[int, bytes]) -> None:
        """A piece of a transaction counts once its Commit has come."""
        record = Record([frame], INVALID, 0, shapes)
        self.store.append([record], self.held.upto)
        self.records.append(record)

    @rule(step=st.integers(0, 50))
    def note_idle(self, step: int) -> None:
        """Other WAL moves what is held, and adds nothing."""
        self.held = Held(self.held.after, Lsn(self.held.upto + step))
        self.store.append([], self.held.upto)

    @rule()
    def reopen(self) -> None:
        """A restart finds what there was."""
        self.store.close()
        self.store = Store(store_path(self.folder, IDENTITY), IDENTITY, self.key)

    @rule()
    def crash(self) -> None:
        """Killed at any moment: the files as they are, without a last word."""
        copy = Path(tempfile.mkdtemp())
        for file in self.folder.iterdir():
            shutil.copy(file, copy)
        self.store.close()
        shutil.rmtree(self.folder)
        self.folder = copy
        self.store = Store(store_path(copy, IDENTITY), IDENTITY, self.key)

    @rule()
    def start_a_stream(self) -> None:
        """A new stream begins after the last whole transaction: what was cut off is dropped."""
        self.store.begin(self.held)
        while self.records and not self.records[-1].end_lsn:
            self.records.pop()

    @precondition(lambda self: any(record.end_lsn for record in self.records))
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        """What the target has committed goes, up to a whole transaction."""
        places = [n for n, record in enumerate(self.records) if record.end_lsn]
        place = data.draw(st.sampled_from(places))
        end = self.records[place].end_lsn
        self.store.forget(self.store.first + place, Lsn(end + 5))
        for record in self.records[: place + 1]:
            self.forgotten_shapes |= record.shapes
        del self.records[: place + 1]
        self.held = Held(end, self.held.upto)

    @invariant()
    def is_the_list(self) -> None:
        """Frames, shapes, range and counts are those of the list."""
        if not hasattr(self, "store"):
            return
        last = max((n for n, r in enumerate(self.records, 1) if r.end_lsn), default=0)
        readable = self.records[:last]
        assert frames_in(self.store) == [f for record in readable for f in record.frames]
        assert sorted(self.store.shapes()) == sorted(self.forgotten_shapes.values())
        assert self.store.held == self.held
        assert self.store.empty == (not self.records)
        assert self.store.transactions == sum(record.transactions for record in self.records)
        assert (self.store.size > 0) == bool(self.records)

    def teardown(self) -> None:
        """Remove the files."""
        self.store.close()
        shutil.rmtree(self.folder)


TestAgainstList = AgainstList.TestCase
TestAgainstList.settings = settings(stateful_step_count=20, deadline=None)


def test_a_transaction_that_was_cut_off_is_dropped(tmp_path: Path) -> None:
    """It comes again, whole, in the next stream: its pieces go, and the shapes among them."""
    store = make(tmp_path)
    store.append([whole(b"a", end=101, shapes={1: b"old"})], Lsn(101))
    store.append([Record([b"half"], INVALID, 0, {1: b"new"})], Lsn(101))
    store.begin(store.held)
    store.append([whole(b"half", b"rest", end=102)], Lsn(102))
    assert frames_in(store) == [b"a", b"half", b"rest"]
    store.forget(store.last, store.held.upto)
    assert store.shapes() == [b"old"]
    store.close()


def test_the_last_shape_of_each_relation_stays(tmp_path: Path) -> None:
    """However old it is; what a newer one has replaced goes with its record."""
    store = make(tmp_path)
    for n, shapes in enumerate(({1: b"one", 2: b"two"}, {1: b"one, anew"}, {3: b"three"}, {})):
        store.append([whole(b"x", end=101 + n, shapes=shapes)], Lsn(101 + n))
    for number, expected in ((1, [b"one", b"two"]), (2, [b"one, anew", b"two"])):
        store.forget(number, store.held.upto)
        assert store.shapes() == expected
    store.forget(4, store.held.upto)
    assert store.shapes() == [b"one, anew", b"two", b"three"]
    store.close()


def test_what_is_held_begins_no_later_than_the_checkpoint(tmp_path: Path) -> None:
    """Transactions without a change move no checkpoint: a target that stands before them fits."""
    store = make(tmp_path)
    store.append([whole(b"a change", end=110), whole(b"no change", end=120)], Lsn(130))
    store.forget(store.last, Lsn(110))
    assert store.held == Held(Lsn(110), Lsn(130))
    store.append([whole(b"a change", end=140)], Lsn(140))
    store.forget(store.last, Lsn(500))
    assert store.held == Held(Lsn(140), Lsn(140))
    store.close()


# What a disk may do


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """The path of a closed spool with 40 records, in one file."""
    store = make(tmp_path)
    for n in range(40):
        store.append([whole(b"frame %d " % n * 100, end=101 + n)], Lsn(101 + n))
    store.close()
    return store.path


def test_any_changed_byte_of_a_record_is_found(filled: Path) -> None:
    """Flipped one at a time: an error, or every frame as it was; never another one."""
    expected = [b"frame %d " % n * 100 for n in range(40)]
    content = bytearray(filled.read_bytes())
    found = 0
    for offset in range(0, len(content), 97):
        content[offset] ^= 0x10
        filled.write_bytes(content)
        content[offset] ^= 0x10
        try:
            store = Store(filled, IDENTITY, None)
        except SpoolFailed:
            found += 1
            continue
        try:
            store.verify()
            assert frames_in(store) == expected
            assert store.held == Held(START, Lsn(140))
        except SpoolFailed:
            found += 1
        finally:
            store.close()
    assert found > 300


@pytest.mark.parametrize("size", [0, 50, 4096, 20_000])
def test_a_file_cut_short_is_found(filled: Path, size: int) -> None:
    """Not even an empty file is taken for a spool that holds nothing."""
    os.truncate(filled, size)
    with pytest.raises(SpoolFailed):
        frames_in(Store(filled, IDENTITY, None))


SWAP = """
update record set id = case id when 3 then -5 else -3 end where id in (3, 5);
update record set id = -id where id < 0;
"""


@pytest.mark.parametrize(
    "change",
    [
        "delete from record where id = 7",
        SWAP,
        "update record set end_lsn = 7 where id = 7",
        "update spool set after_lsn = 1",
        "update spool set upto_lsn = 1000",
        "update spool set next = 30",
        "update spool set database = 'other'",
        "delete from spool",
        "drop table record",
    ],
)
def test_a_file_that_was_tampered_with_is_found(filled: Path, change: str) -> None:
    """A record that is missing or stands elsewhere, a range that was never written."""
    with sqlite3.connect(filled) as db:
        db.executescript(change)
    db.close()
    with pytest.raises(SpoolFailed, match="corrupt"):
        frames_in(Store(filled, IDENTITY, None))


def test_the_file_gives_its_bytes_back(tmp_path: Path) -> None:
    """Once everything is forgotten, the file is as small as it was when it was new."""
    store = make(tmp_path)
    for n in range(20):
        store.append([whole(b"x" * 1_000_000, end=101 + n)], Lsn(101 + n))
    store.forget(store.last, store.held.upto)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 200_000
    store.close()


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    """It holds rows, and so does its log."""
    store = make(tmp_path)
    store.append([whole(b"x", end=101)], Lsn(101))
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}
    store.close()


def test_a_file_removed_meanwhile_is_noticed(tmp_path: Path) -> None:
    """What is written to a file without a name survives nothing, and must not be confirmed."""
    store = make(tmp_path)
    store.path.unlink()
    with pytest.raises(SpoolFailed, match="removed"):
        store.append([whole(b"x", end=101)], Lsn(101))
    store.close()


def test_a_draft_left_behind_does_no_harm(tmp_path: Path) -> None:
    """Killed while it was made: there is no spool, and the next one is made anew."""
    path = store_path(tmp_path, IDENTITY)
    path.with_suffix(".spool-draft").write_bytes(b"half a file")
    make(tmp_path).close()
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


# With a key


def test_no_value_is_readable(tmp_path: Path) -> None:
    """With a key, neither the file nor its log holds anything of a row or of a table's shape."""
    store = make(tmp_path, KEY)
    store.append([whole(b"marker of a row", end=101, shapes={1: b"marker of a shape"})], Lsn(101))
    content = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"marker" not in content
    assert frames_in(store) == [b"marker of a row"]
    store.close()


@pytest.mark.parametrize(("key", "other"), [(KEY, KEY + "!"), (KEY, None), (None, KEY)])
def test_another_key_is_refused(tmp_path: Path, key: str | None, other: str | None) -> None:
    """A key that does not open what is queued is a setting to change, and nothing is touched."""
    store = make(tmp_path, key)
    store.append([whole(b"a row", end=101)], Lsn(101))
    store.close()
    with pytest.raises(SettingsError, match="another key"):
        Store(store.path, IDENTITY, other)
    store = Store(store.path, IDENTITY, key)
    assert frames_in(store) == [b"a row"]
    store.close()


def test_an_empty_spool_takes_another_key(tmp_path: Path) -> None:
    """Where nothing is queued the key may change; what is held stays known."""
    store = make(tmp_path, KEY)
    store.append([whole(b"a row", end=101, shapes={1: b"shape"})], Lsn(101))
    store.forget(store.last, store.held.upto)
    store.close()
    store = Store(store.path, IDENTITY, None)
    assert store.held == Held(Lsn(101), Lsn(101))
    store.append([whole(b"plain", end=102)], Lsn(102))
    assert frames_in(store) == [b"plain"]
    store.close()


def test_records_of_another_spool_do_not_open(tmp_path: Path) -> None:
    """Each file has a salt of its own: the same key opens no record of an older file."""
    stores = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        store = make(tmp_path / name, KEY)
        store.append([whole(b"a row", end=101)], Lsn(101))
        store.close()
        stores.append(store.path)
    with sqlite3.connect(stores[0]) as one:
        (content,) = one.execute("select content from record").fetchone()
    one.close()
    with sqlite3.connect(stores[1]) as two:
        two.execute("update record set content = ?", (content,))
    two.close()
    store = Store(stores[1], IDENTITY, KEY)
    with pytest.raises(SpoolFailed, match="corrupt"):
        store.read(1)
    store.close()


def test_the_spool_of_another_slot_is_another_file(tmp_path: Path) -> None:
    """Server, timeline and slot name the file."""
    others = [
        replace(IDENTITY, slot="cdc_other"),
        replace(IDENTITY, system_identifier="7300000000000000002"),
        replace(IDENTITY, timeline=2),
    ]
    assert len({store_path(tmp_path, identity) for identity in (IDENTITY, *others)}) == 4

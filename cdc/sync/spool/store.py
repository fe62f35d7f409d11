"""The spool: changes in stream order, durable when `append` returns, and checked when read.

A file of SQLite, one for each slot identity, in the state directory. It holds *records*: frames of
the stream as they came, of whole transactions, or a piece of one that is large. `held` says what
they stand for: all that was committed between the two LSNs is in here, or is on the target and was
forgotten. It changes in the transaction that appends or forgets, so it is true after any crash.

The source sends a relation's shape once a session, so each Relation is kept beside the records as
well: a reader that begins in the middle is given the shapes in force there.

Durable: a write-ahead log with synchronous=FULL is fsynced at each commit (a rollback journal would
need EXTRA for the same promise). Checked: SQLite finds a broken page, the seal a changed record,
the numbers a missing one. It knows no limit, and is for one thread at a time.
"""

import os
import sqlite3
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cdc.errors import SettingsError
from cdc.lsn import Lsn
from cdc.sync.position import Held
from cdc.sync.spool.failure import explain, removed
from cdc.sync.spool.file import TOKEN, VERSION, Range, names
from cdc.sync.spool.record import Record, pack, unpack
from cdc.sync.spool.seal import SALT_BYTES, Broken, Seal, seal_of
from cdc.target.checkpoint import SlotIdentity
from cdc.wire.messages import Begin
from cdc.wire.pgoutput import decode
from cdc.wire.replication import XLogData, decode_frame

# What a checkpoint of SQLite's leaves of its log on the disk.
_LOG_BYTES = 8 << 20

_PLACE = struct.Struct("!QQ")


class Store:
    """The open file."""

    def __init__(self, path: Path, identity: SlotIdentity, key: str | None) -> None:
        self.path = path
        self.identity = identity
        self._salt: bytes
        self._seal: Seal
        self._range: Range
        self._whole = 0
        self.size = self.transactions = 0
        with self._explained():
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            try:
                self._db.execute("pragma synchronous = full")
                self._db.execute(f"pragma journal_size_limit = {_LOG_BYTES}")
                self._load(identity, key)
            except BaseException:
                self._db.close()
                raise
        self._inode = path.stat().st_ino

    def _load(self, identity: SlotIdentity, key: str | None) -> None:
        row = self._db.execute("select * from spool").fetchone()
        version, *found, salt, token, after, upto, first, following, seal = row
        if version != VERSION or found != names(identity):
            raise Broken
        self._count()
        self._salt, self._seal = salt, seal_of(key, salt)
        self._range = Range(Held(Lsn(after), Lsn(upto)), first, following)
        try:
            self._seal.open(token, salt)
        except Broken:
            if not self.empty:
                raise SettingsError(
                    f"the spool {self.path} was written with another key",
                    hint="give the one it was written with (CDC_SPOOL_KEY; none, if it had none)",
                ) from None
            self._rekey(key)
        else:
            self._seal.open(seal, self._range.packed())

    def _rekey(self, key: str | None) -> None:
        """Begin to use another key: there is nothing that the one before is needed for."""
        self._salt = os.urandom(SALT_BYTES)
        self._seal = seal_of(key, self._salt)
        with self._writing():
            token = self._seal.close(TOKEN, self._salt)
            self._db.execute("update spool set salt = ?, token = ?", (self._salt, token))
            self._db.execute("delete from shape")
            self._commit(self._range)

    @property
    def held(self) -> Held:
        """What all these records, and those forgotten, stand for."""
        return self._range.held

    @property
    def first(self) -> int:
        """Number of the first record."""
        return self._range.first

    @property
    def last(self) -> int:
        """Number of the last record."""
        return self._range.next - 1

    @property
    def empty(self) -> bool:
        """There is no record."""
        return self._range.first == self._range.next

    @property
    def unfinished(self) -> bool:
        """The last record is a piece of a transaction whose end has not come yet."""
        return not self.empty and self.last > self._whole

    def begin(self, held: Held) -> None:
        """Make ready to append what comes after `held.upto`: a transaction cut off is dropped."""
        with self._writing():
            following = max(self._whole + 1, self.first)
            self._db.execute("delete from record where id >= ?", (following,))
            self._db.execute("delete from shape where record >= ?", (following,))
            self._commit(Range(held, self.first, following))
        self._count()

    def append(self, records: Sequence[Record], upto: Lsn) -> None:
        """Store records; when this returns, all that was committed before `upto` is on disk."""
        number, whole, size = self._range.next, self._whole, 0
        with self._writing():
            for record in records:
                sealed = self._seal.close(pack(record.frames), self._place(number, record.end_lsn))
                self._db.execute(
                    "insert into record values (?, ?, ?, ?, ?)",
                    (number, record.end_lsn, record.transactions, len(sealed), sealed),
                )
                for relation_id, frame in record.shapes.items():
                    shape = self._seal.close(frame, self._place(number, relation_id))
                    self._db.execute(
                        "insert into shape values (?, ?, ?)", (relation_id, number, shape)
                    )
                whole = number if record.end_lsn else whole
                number += 1
                size += len(sealed)
            held = Held(self.held.after, max(upto, self.held.upto))
            self._commit(Range(held, self.first, number))
        self._whole = whole
        self.size += size
        self.transactions += sum(record.transactions for record in records)
        self._require_in_place()

    def read(self, number: int) -> Record | None:
        """Return a record; None where it is still to come, or has no Commit yet."""
        return self._open(number) if number <= self._whole else None

    def begins(self) -> int | None:
        """Return when the first transaction was committed, as its Begin says; None: it is empty."""
        if self.empty:
            return None
        contents = (decode_frame(frame) for frame in self._open(self.first).frames)
        payloads = (each.payload for each in contents if isinstance(each, XLogData))
        return next((m.commit_time for m in map(decode, payloads) if isinstance(m, Begin)), None)

    def _open(self, number: int) -> Record:
        with self._explained():
            row = self._db.execute(
                "select end_lsn, transactions, content from record where id = ?", (number,)
            ).fetchone()
            if row is None:
                raise Broken
            end_lsn, transactions, sealed = row
            content = self._seal.open(sealed, self._place(number, end_lsn))
            return Record(list(unpack(content)), Lsn(end_lsn), transactions)

    def verify(self) -> None:
        """Read all that a reader would be given; raise SpoolFailed if it would not be."""
        self.shapes()
        for number in range(self.first, self._whole + 1):
            self.read(number)

    def shapes(self) -> list[bytes]:
        """Return the Relation messages in force before the first record."""
        with self._explained():
            rows = self._db.execute(
                "select relation_id, max(record), content from shape where record < ?"
                " group by relation_id",
                (self.first,),
            ).fetchall()
            return [
                self._seal.open(content, self._place(record, relation_id))
                for relation_id, record, content in rows
            ]

    def forget(self, number: int, committed: Lsn) -> None:
        """Drop the records up to this one, and free their bytes; the target stands at `committed`.

        What is held begins where they end from now on, so that a target which is restored to before
        that is told apart; or at the checkpoint, where the last of them hold no change.
        """
        with self._writing():
            (end,) = self._db.execute(
                "select coalesce(max(end_lsn), 0) from record where id <= ?", (number,)
            ).fetchone()
            self._db.execute("delete from record where id <= ?", (number,))
            self._db.execute(
                "delete from shape where record <= ?1 and exists (select 1 from shape later"
                " where later.relation_id = shape.relation_id and later.record > shape.record"
                " and later.record <= ?1)",
                (number,),
            )
            after = max(self.held.after, min(Lsn(end), committed))
            held = Held(after, self.held.upto)
            self._commit(Range(held, number + 1, self._range.next))
        self._count()
        self._shrink()

    def clear(self, at: Lsn) -> None:
        """Forget everything: the target, at `at`, is beyond it."""
        following = self._range.next
        with self._writing():
            self._db.execute("delete from record")
            self._db.execute("delete from shape")
            self._commit(Range(Held(at, at), following, following))
        self._count()
        self._shrink()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _commit(self, changed: Range) -> None:
        """Note what is held, and commit."""
        seal = self._seal.close(b"", changed.packed())
        self._db.execute(
            "update spool set after_lsn = ?, upto_lsn = ?, first = ?, next = ?, seal = ?",
            (changed.held.after, changed.held.upto, changed.first, changed.next, seal),
        )
        self._db.execute("commit")
        self._range = changed

    def _count(self) -> None:
        with self._explained():
            self.size, self.transactions, self._whole = self._db.execute(
                "select coalesce(sum(size), 0), coalesce(sum(transactions), 0),"
                " coalesce(max(id) filter (where end_lsn > 0), 0) from record"
            ).fetchone()

    def _shrink(self) -> None:
        """Give back to the disk what is free in the file."""
        with self._explained():
            # As a script: executed like a query, it gives back a single page.
            self._db.executescript("pragma incremental_vacuum")
            if self.empty:
                self._db.execute("pragma wal_checkpoint(truncate)").fetchall()

    def _place(self, number: int, other: int) -> bytes:
        """Return what a seal covers beside the content: where it stands."""
        return self._salt + _PLACE.pack(number, other)

    def _require_in_place(self) -> None:
        try:
            there = self.path.stat().st_ino == self._inode
        except FileNotFoundError:
            there = False
        if not there:
            raise removed(self.path)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold one transaction, which `_commit` ends."""
        with self._explained():
            self._db.execute("begin immediate")
            try:
                yield
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("rollback")
                raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, Broken, struct.error, TypeError, ValueError) as ex:
            raise explain(ex, self.path) from ex

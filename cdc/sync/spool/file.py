"""The spool's file: where it is, its tables, and how it comes to be, whole or not at all."""

import os
import sqlite3
import struct
from dataclasses import dataclass
from pathlib import Path

from cdc.lsn import Lsn
from cdc.sync.position import Held, sync_directory
from cdc.sync.spool.failure import explain
from cdc.sync.spool.seal import SALT_BYTES, seal_of
from cdc.target.checkpoint import SlotIdentity

VERSION = 1

TOKEN = b"cdc spool"
"""Stands sealed in the file, to be opened with the right key."""

_SCHEMA = """
pragma auto_vacuum = incremental;
pragma journal_mode = wal;
create table spool (
  version integer, slot text, system_identifier text, timeline integer, database text,
  salt blob, token blob, after_lsn integer, upto_lsn integer, first integer, next integer, seal blob
);
create table record (
  id integer primary key, end_lsn integer, transactions integer, size integer, content blob
);
create table shape (
  relation_id integer, record integer, content blob, primary key (relation_id, record)
) without rowid;
"""

_RANGE = struct.Struct("!QQQQ")


@dataclass(slots=True, frozen=True)
class Range:
    """What the file stands for: `first` to before `next` are its records."""

    held: Held
    first: int
    next: int

    def packed(self) -> bytes:
        """Return it as bytes, to be sealed."""
        return _RANGE.pack(self.held.after, self.held.upto, self.first, self.next)


def store_path(state_dir: Path, identity: SlotIdentity) -> Path:
    """Return where the spool of a slot is, whether or not it is there."""
    name = f"{identity.system_identifier}-{identity.timeline}-{identity.slot}.spool"
    return state_dir / name


def names(identity: SlotIdentity) -> list[str | int]:
    """Return the slot's identity as it stands in the file."""
    return [identity.slot, identity.system_identifier, identity.timeline, identity.database]


def identity_in(path: Path) -> SlotIdentity:
    """Return whose spool a file is."""
    columns = "slot, system_identifier, timeline, database"
    try:
        db = sqlite3.connect(path)
        try:
            return SlotIdentity(*db.execute(f"select {columns} from spool").fetchone())
        finally:
            db.close()
    except (sqlite3.Error, TypeError) as ex:
        raise explain(ex, path) from ex


def create_file(path: Path, identity: SlotIdentity, key: str | None, at: Lsn) -> None:
    """Make the spool of a slot whose target stands at `at`: a whole file, or none."""
    draft = path.with_suffix(".spool-draft")
    for left in draft.parent.glob(f"{draft.name}*"):
        left.unlink()
    # Rows are in it: for nobody else's eyes; SQLite gives its log the same mode.
    draft.touch(mode=0o600)
    salt = os.urandom(SALT_BYTES)
    seal = seal_of(key, salt)
    begin = Range(Held(at, at), 1, 1)
    token, closed = seal.close(TOKEN, salt), seal.close(b"", begin.packed())
    try:
        db = sqlite3.connect(draft, isolation_level=None)
        try:
            db.executescript(_SCHEMA)
            db.execute(
                "insert into spool values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (VERSION, *names(identity), salt, token, at, at, begin.first, begin.next, closed),
            )
        finally:
            db.close()
    except sqlite3.Error as ex:
        raise explain(ex, draft) from ex
    draft.replace(path)
    sync_directory(path.parent)

"""The messages of logical replication: one vocabulary, whichever output plugin sent them.

Fields are named and ordered as in the manual ("Logical Replication Message Formats"). A row is a
tuple with one value a column: the text that the server sent, None for NULL, or `UNCHANGED` for a
TOAST value that the statement left alone and that is therefore not on the wire. Times are µs since
2000-01-01 00:00 UTC, as on the wire.

Constructors stand here where a message comes for each row or transaction: those that `dataclass`
makes cannot be compiled.
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

from cdc.lsn import Lsn

Value: TypeAlias = bytes | None
Row: TypeAlias = tuple[Value, ...]

# PostgreSQL has no NUL in any text, so this can be no value; compared by identity.
UNCHANGED: Final = b"\0unchanged TOAST"

# InvalidOid: the type of a column of which nothing more is known.
UNKNOWN_TYPE: Final = 0


def is_whole(row: Row) -> bool:
    """Tell whether each value of a row is there: none is UNCHANGED.

    By identity: `in` would compare the bytes of each value, at twice the cost of decoding it.
    """
    for value in row:  # noqa: SIM110  # compiled, a loop is a tenth of a generator
        if value is UNCHANGED:
            return False
    return True


@dataclass(slots=True, init=False)
class Begin:
    """A transaction starts; all until its Commit belongs to it."""

    final_lsn: Lsn
    """The LSN of the transaction's commit record."""
    commit_time: int
    xid: int

    def __init__(self, final_lsn: Lsn, commit_time: int, xid: int) -> None:
        self.final_lsn = final_lsn
        self.commit_time = commit_time
        self.xid = xid


@dataclass(slots=True, init=False)
class Commit:
    """The transaction is whole; `end_lsn` is the only position from which a stream may resume."""

    commit_lsn: Lsn
    end_lsn: Lsn
    commit_time: int

    def __init__(self, commit_lsn: Lsn, end_lsn: Lsn, commit_time: int) -> None:
        self.commit_lsn = commit_lsn
        self.end_lsn = end_lsn
        self.commit_time = commit_time


@dataclass(slots=True)
class Origin:
    """The transaction came to the source by replication from somewhere else."""

    commit_lsn: Lsn
    name: str


@dataclass(slots=True, frozen=True)
class Column:
    """A published column of a relation."""

    name: str
    is_key: bool
    """Part of the replica identity; under REPLICA IDENTITY FULL every column is."""
    type_oid: int
    type_modifier: int


@dataclass(slots=True, frozen=True)
class Relation:
    """The shape of a relation: sent before its first change, and again when it may have changed."""

    relation_id: int
    schema: str
    name: str
    replica_identity: str
    """As in pg_class.relreplident: d default, n nothing, f full, i index."""
    columns: tuple[Column, ...]


@dataclass(slots=True)
class Type:
    """A column's data type that is not built in. Values travel as text, so nothing needs it."""

    type_oid: int
    schema: str
    name: str


@dataclass(slots=True, init=False)
class Insert:
    """A new row."""

    relation_id: int
    new: Row

    def __init__(self, relation_id: int, new: Row) -> None:
        self.relation_id = relation_id
        self.new = new


@dataclass(slots=True, init=False)
class Update:
    """A changed row. `old` is there if the replica identity changed, or is FULL."""

    relation_id: int
    old: Row | None
    old_is_full: bool
    """`old` holds the whole row ('O'), not only the replica identity ('K')."""
    new: Row

    def __init__(self, relation_id: int, old: Row | None, old_is_full: bool, new: Row) -> None:
        self.relation_id = relation_id
        self.old = old
        self.old_is_full = old_is_full
        self.new = new


@dataclass(slots=True, init=False)
class Delete:
    """A row that is gone."""

    relation_id: int
    old: Row
    old_is_full: bool

    def __init__(self, relation_id: int, old: Row, old_is_full: bool) -> None:
        self.relation_id = relation_id
        self.old = old
        self.old_is_full = old_is_full


@dataclass(slots=True)
class Truncate:
    """Relations emptied by one statement."""

    relation_ids: tuple[int, ...]
    cascade: bool
    restart_identity: bool


@dataclass(slots=True)
class LogicalMessage:
    """What somebody wrote with pg_logical_emit_message."""

    transactional: bool
    lsn: Lsn
    prefix: str
    content: bytes


Change: TypeAlias = Insert | Update | Delete | Truncate
Message: TypeAlias = Change | Begin | Commit | Origin | Relation | Type | LogicalMessage

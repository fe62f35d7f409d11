"""Messages and frames into the bytes that a server would send: the inverse of `cdc.wire`.

Written from the manual ("Logical Replication Message Formats", "Streaming Replication Protocol"),
for tests alone; it takes any values, also such that no server would send.
"""

import struct
from functools import singledispatch

from cdc.wire.messages import (
    UNCHANGED,
    Begin,
    Column,
    Commit,
    Delete,
    Insert,
    LogicalMessage,
    Message,
    Origin,
    Relation,
    Row,
    Truncate,
    Type,
    Update,
)
from cdc.wire.replication import PrimaryKeepalive, XLogData


@singledispatch
def encode(message: Message) -> bytes:
    """Return the message as pgoutput writes it."""
    raise TypeError(type(message))


@encode.register
def _(message: Begin) -> bytes:
    return struct.pack("!cQqI", b"B", message.final_lsn, message.commit_time, message.xid)


@encode.register
def _(message: Commit) -> bytes:
    lsns = message.commit_lsn, message.end_lsn
    return struct.pack("!cBQQq", b"C", 0, *lsns, message.commit_time)


@encode.register
def _(message: Origin) -> bytes:
    return struct.pack("!cQ", b"O", message.commit_lsn) + _string(message.name)


@encode.register
def _(message: Relation) -> bytes:
    head = _head(b"R", message.relation_id) + _string(message.schema) + _string(message.name)
    count = struct.pack("!H", len(message.columns))
    columns = b"".join(map(_column, message.columns))
    return head + message.replica_identity.encode() + count + columns


@encode.register
def _(message: Type) -> bytes:
    return _head(b"Y", message.type_oid) + _string(message.schema) + _string(message.name)


@encode.register
def _(message: Insert) -> bytes:
    return _head(b"I", message.relation_id) + b"N" + _tuple(message.new)


@encode.register
def _(message: Update) -> bytes:
    old = b"" if message.old is None else _old(message.old, is_full=message.old_is_full)
    return _head(b"U", message.relation_id) + old + b"N" + _tuple(message.new)


@encode.register
def _(message: Delete) -> bytes:
    return _head(b"D", message.relation_id) + _old(message.old, is_full=message.old_is_full)


@encode.register
def _(message: Truncate) -> bytes:
    ids = message.relation_ids
    options = message.cascade | message.restart_identity << 1
    return struct.pack(f"!cIB{len(ids)}I", b"T", len(ids), options, *ids)


@encode.register
def _(message: LogicalMessage) -> bytes:
    head = struct.pack("!cBQ", b"M", message.transactional, message.lsn) + _string(message.prefix)
    return head + struct.pack("!I", len(message.content)) + message.content


def encode_frame(frame: XLogData | PrimaryKeepalive) -> bytes:
    """Return the frame as the walsender writes it."""
    match frame:
        case XLogData(data_start, wal_end, clock, payload):
            return struct.pack("!cQQq", b"w", data_start, wal_end, clock) + payload
        case PrimaryKeepalive(wal_end, clock, reply_requested):
            return struct.pack("!cQqB", b"k", wal_end, clock, reply_requested)


def _head(kind: bytes, oid: int) -> bytes:
    return struct.pack("!cI", kind, oid)


def _string(text: str) -> bytes:
    return text.encode() + b"\0"


def _column(column: Column) -> bytes:
    kind = struct.pack("!Ii", column.type_oid, column.type_modifier)
    return struct.pack("!B", column.is_key) + _string(column.name) + kind


def _old(row: Row, *, is_full: bool) -> bytes:
    return (b"O" if is_full else b"K") + _tuple(row)


def _tuple(row: Row) -> bytes:
    parts = [struct.pack("!H", len(row))]
    for value in row:
        if value is None:
            parts.append(b"n")
        elif value is UNCHANGED:
            parts.append(b"u")
        else:
            parts.append(b"t" + struct.pack("!I", len(value)) + value)
    return b"".join(parts)

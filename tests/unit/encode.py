"""Messages and frames into the bytes that a server would send: the inverse of `cdc.wire`.

Written from the manual ("Logical Replication Message Formats", "Streaming Replication Protocol"),
for tests alone; it takes any values, also such that no server would send.
"""

import struct

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


def encode(message: Message) -> bytes:
    """Return the message as pgoutput writes it."""
    match message:
        case Begin(final_lsn, commit_time, xid):
            return struct.pack("!cQqI", b"B", final_lsn, commit_time, xid)
        case Commit(commit_lsn, end_lsn, commit_time):
            return struct.pack("!cBQQq", b"C", 0, commit_lsn, end_lsn, commit_time)
        case Origin(commit_lsn, name):
            return struct.pack("!cQ", b"O", commit_lsn) + _string(name)
        case Relation(relation_id, schema, name, replica_identity, columns):
            head = struct.pack("!cI", b"R", relation_id) + _string(schema) + _string(name)
            count = struct.pack("!H", len(columns))
            return head + replica_identity.encode() + count + b"".join(map(_column, columns))
        case Type(type_oid, schema, name):
            return struct.pack("!cI", b"Y", type_oid) + _string(schema) + _string(name)
        case Insert(relation_id, new):
            return struct.pack("!cI", b"I", relation_id) + b"N" + _tuple(new)
        case Update(relation_id, old, old_is_full, new):
            before = b"" if old is None else _old(old, is_full=old_is_full)
            return struct.pack("!cI", b"U", relation_id) + before + b"N" + _tuple(new)
        case Delete(relation_id, old, old_is_full):
            return struct.pack("!cI", b"D", relation_id) + _old(old, is_full=old_is_full)
        case Truncate(relation_ids, cascade, restart_identity):
            options = cascade | restart_identity << 1
            count = len(relation_ids)
            return struct.pack(f"!cIB{count}I", b"T", count, options, *relation_ids)
        case LogicalMessage(transactional, lsn, prefix, content):
            head = struct.pack("!cBQ", b"M", transactional, lsn) + _string(prefix)
            return head + struct.pack("!I", len(content)) + content


def encode_frame(frame: XLogData | PrimaryKeepalive) -> bytes:
    """Return the frame as the walsender writes it."""
    match frame:
        case XLogData(data_start, wal_end, clock, payload):
            return struct.pack("!cQQq", b"w", data_start, wal_end, clock) + payload
        case PrimaryKeepalive(wal_end, clock, reply_requested):
            return struct.pack("!cQqB", b"k", wal_end, clock, reply_requested)


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

"""Messages of pgoutput, protocol version 1 (manual, "Logical Replication Message Formats").

`decode` is total: for any bytes it returns a message or raises ProtocolError. It promises nothing
about the order of messages; a Relation that was never sent is found by who folds them.

How malformed input is found: slices never fail, so a length that points past the end shows as an
offset that is not the message's length when all is read. One comparison a message instead of one a
value; a tuple of 11 columns takes 2 µs in CPython.
"""

import struct
from collections.abc import Callable
from typing import Final

from cdc.errors import ProtocolError
from cdc.lsn import Lsn
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
    Value,
)

_BEGIN = struct.Struct("!QqI")
_COMMIT = struct.Struct("!BQQq")
_LSN = struct.Struct("!Q")
_OID = struct.Struct("!I")
_COUNT = struct.Struct("!H")
_COLUMN = struct.Struct("!Ii")
_TRUNCATE = struct.Struct("!IB")
_MESSAGE = struct.Struct("!BQ")

# As numbers: compiled, each is a constant; as `b"t"[0]` it would be looked up for each value.
_NEW: Final = 0x4E
_KEY: Final = 0x4B
_OLD: Final = 0x4F
_NULL: Final = 0x6E
_TOAST: Final = 0x75
_TEXT: Final = 0x74


def decode(payload: bytes) -> Message:
    """Return the message that `payload`, the content of one XLogData, holds."""
    kind = payload[:1]
    try:
        if kind == b"I":
            message, end = _decode_insert(payload)
        elif kind == b"U":
            message, end = _decode_update(payload)
        elif kind in _DECODERS:
            message, end = _DECODERS[kind](payload)
        else:
            raise ProtocolError("a message of pgoutput", f"type {kind!r}", 0)
    except (IndexError, ValueError, struct.error) as ex:
        raise ProtocolError("a whole message", f"{payload[:1]!r} cut short", len(payload)) from ex
    if end != len(payload):
        raise ProtocolError(f"a message of {end} bytes", f"{len(payload)} bytes", len(payload))
    return message


def decode_payload(payload: bytes) -> tuple[Message]:
    """Return the one message that `payload` holds: as wal2json, of which a line may hold more."""
    return (decode(payload),)


def _decode_tuple(payload: bytes, offset: int) -> tuple[Row, int]:
    count = payload[offset] << 8 | payload[offset + 1]
    offset += 2
    values: list[Value] = []
    for _ in range(count):
        kind = payload[offset]
        if kind == _TEXT:
            # Compiled, four indices are a tenth of int.from_bytes.
            size = payload[offset + 3] << 8 | payload[offset + 4]
            if payload[offset + 2] or payload[offset + 1]:
                size |= payload[offset + 1] << 24 | payload[offset + 2] << 16
            start = offset + 5
            offset = start + size
            values.append(payload[start:offset])
        elif kind == _NULL:
            values.append(None)
            offset += 1
        elif kind == _TOAST:
            values.append(UNCHANGED)
            offset += 1
        else:
            # 'b' too: the binary form is never asked for.
            raise ProtocolError("a value of kind n, u or t", repr(chr(kind)), offset)
    return tuple(values), offset


def _decode_string(payload: bytes, offset: int) -> tuple[str, int]:
    end = payload.index(0, offset)
    return payload[offset:end].decode(), end + 1


def _expect(payload: bytes, offset: int, kind: int) -> int:
    if payload[offset] != kind:
        raise ProtocolError(f"a tuple {chr(kind)!r}", repr(chr(payload[offset])), offset)
    return offset + 1


def _decode_insert(payload: bytes) -> tuple[Message, int]:
    relation_id = int.from_bytes(payload[1:5], "big")
    new, end = _decode_tuple(payload, _expect(payload, 5, _NEW))
    return Insert(relation_id, new), end


def _decode_update(payload: bytes) -> tuple[Message, int]:
    relation_id = int.from_bytes(payload[1:5], "big")
    kind = payload[5]
    old = None
    offset = 5
    if kind in (_KEY, _OLD):
        old, offset = _decode_tuple(payload, 6)
    new, end = _decode_tuple(payload, _expect(payload, offset, _NEW))
    return Update(relation_id, old, kind == _OLD, new), end


def _decode_delete(payload: bytes) -> tuple[Message, int]:
    relation_id = int.from_bytes(payload[1:5], "big")
    kind = payload[5]
    if kind not in (_KEY, _OLD):
        raise ProtocolError("a tuple 'K' or 'O'", repr(chr(kind)), 5)
    old, end = _decode_tuple(payload, 6)
    return Delete(relation_id, old, kind == _OLD), end


def _decode_truncate(payload: bytes) -> tuple[Message, int]:
    count, options = _TRUNCATE.unpack_from(payload, 1)
    end = 6 + 4 * count
    if count == 0 or end > len(payload):
        raise ProtocolError(f"{count or 'some'} relations", f"{len(payload)} bytes", len(payload))
    ids = tuple(_OID.unpack_from(payload, offset)[0] for offset in range(6, end, 4))
    return Truncate(ids, bool(options & 1), bool(options & 2)), end


def _decode_begin(payload: bytes) -> tuple[Message, int]:
    final_lsn, commit_time, xid = _BEGIN.unpack_from(payload, 1)
    return Begin(Lsn(final_lsn), commit_time, xid), 1 + _BEGIN.size


def _decode_commit(payload: bytes) -> tuple[Message, int]:
    _flags, commit_lsn, end_lsn, commit_time = _COMMIT.unpack_from(payload, 1)
    return Commit(Lsn(commit_lsn), Lsn(end_lsn), commit_time), 1 + _COMMIT.size


def _decode_relation(payload: bytes) -> tuple[Message, int]:
    (relation_id,) = _OID.unpack_from(payload, 1)
    schema, offset = _decode_string(payload, 5)
    name, offset = _decode_string(payload, offset)
    replica_identity = chr(payload[offset])
    (count,) = _COUNT.unpack_from(payload, offset + 1)
    offset += 3
    columns: list[Column] = []
    for _ in range(count):
        is_key = bool(payload[offset] & 1)
        column, offset = _decode_string(payload, offset + 1)
        type_oid, type_modifier = _COLUMN.unpack_from(payload, offset)
        offset += _COLUMN.size
        columns.append(Column(column, is_key, type_oid, type_modifier))
    # The manual: the empty string stands for pg_catalog.
    relation = Relation(relation_id, schema or "pg_catalog", name, replica_identity, tuple(columns))
    return relation, offset


def _decode_type(payload: bytes) -> tuple[Message, int]:
    (type_oid,) = _OID.unpack_from(payload, 1)
    schema, offset = _decode_string(payload, 5)
    name, end = _decode_string(payload, offset)
    return Type(type_oid, schema or "pg_catalog", name), end


def _decode_origin(payload: bytes) -> tuple[Message, int]:
    (commit_lsn,) = _LSN.unpack_from(payload, 1)
    name, end = _decode_string(payload, 9)
    return Origin(Lsn(commit_lsn), name), end


def _decode_logical_message(payload: bytes) -> tuple[Message, int]:
    flags, lsn = _MESSAGE.unpack_from(payload, 1)
    prefix, offset = _decode_string(payload, 1 + _MESSAGE.size)
    (length,) = _OID.unpack_from(payload, offset)
    end = offset + 4 + length
    return LogicalMessage(bool(flags & 1), Lsn(lsn), prefix, payload[offset + 4 : end]), end


_DECODERS: dict[bytes, Callable[[bytes], tuple[Message, int]]] = {
    b"D": _decode_delete,
    b"B": _decode_begin,
    b"C": _decode_commit,
    b"R": _decode_relation,
    b"T": _decode_truncate,
    b"Y": _decode_type,
    b"O": _decode_origin,
    b"M": _decode_logical_message,
}

"""Frames of the streaming replication protocol (manual, "Streaming Replication Protocol").

Inside COPY BOTH the server sends XLogData ('w') and primary keepalives ('k'); we answer with
standby status updates ('r'). Decoding is total: a frame, or ProtocolError. What is inside an
XLogData is the output plugin's business (`pgoutput`); when to answer is `sync.feedback`'s.
"""

import struct
from dataclasses import dataclass
from typing import Final

from cdc.errors import ProtocolError
from cdc.lsn import Lsn

_XLOG_DATA = struct.Struct("!QQq")
_KEEPALIVE = struct.Struct("!QqB")
_KEEPALIVE_FRAME = struct.Struct("!cQqB")
_STATUS = struct.Struct("!cQQQqB")

XLOG_DATA_HEADER: Final = 1 + 24  # its kind, and an _XLOG_DATA


@dataclass(slots=True)
class XLogData:
    """A piece of the stream: one message of the output plugin."""

    data_start: Lsn
    wal_end: Lsn
    clock: int
    """Server's clock at transmission, µs since 2000-01-01."""
    payload: bytes


@dataclass(slots=True)
class PrimaryKeepalive:
    """The server is alive, and has sent all that was committed before `wal_end`."""

    wal_end: Lsn
    clock: int
    reply_requested: bool


def payload_of(frame: bytes) -> bytes | None:
    """Return what an XLogData holds; None if the frame is another one, or broken."""
    if frame[:1] == b"w" and len(frame) >= XLOG_DATA_HEADER:
        return frame[XLOG_DATA_HEADER:]
    return None


def decode_frame(frame: bytes) -> XLogData | PrimaryKeepalive:
    """Return what the server sent in one CopyData message."""
    kind = frame[:1]
    if kind == b"w" and len(frame) >= XLOG_DATA_HEADER:
        data_start, wal_end, clock = _XLOG_DATA.unpack_from(frame, 1)
        return XLogData(Lsn(data_start), Lsn(wal_end), clock, frame[XLOG_DATA_HEADER:])
    if kind == b"k" and len(frame) == 1 + _KEEPALIVE.size:
        wal_end, clock, reply = _KEEPALIVE.unpack_from(frame, 1)
        return PrimaryKeepalive(Lsn(wal_end), clock, reply != 0)
    raise ProtocolError("XLogData or a primary keepalive", f"{len(frame)} bytes of {kind!r}", 0)


def encode_primary_keepalive(wal_end: Lsn) -> bytes:
    """Return the frame that says that all that was committed before `wal_end` was sent."""
    return _KEEPALIVE_FRAME.pack(b"k", wal_end, 0, 0)


def encode_standby_status_update(
    written: Lsn, flushed: Lsn, applied: Lsn, clock: int, *, reply_requested: bool = False
) -> bytes:
    """Return the CopyData that confirms LSNs to the server; only `flushed` moves the slot.

    `clock` is ours at transmission, µs since 2000-01-01.
    """
    return _STATUS.pack(b"r", written, flushed, applied, clock, int(reply_requested))

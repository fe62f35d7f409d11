"""Frames of the replication stream: XLogData and keepalives in, status updates out."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.errors import ProtocolError
from cdc.lsn import Lsn
from cdc.wire.replication import (
    XLOG_DATA_HEADER,
    PrimaryKeepalive,
    XLogData,
    decode_frame,
    encode_standby_status_update,
)
from tests.unit.encode import encode_frame
from tests.unit.strategies import lsns, times

xlog_data = st.builds(XLogData, lsns, lsns, times, st.binary(max_size=20))
keepalives = st.builds(PrimaryKeepalive, lsns, times, st.booleans())
frames = st.one_of(xlog_data, keepalives)


@given(frames)
def test_every_frame_survives_encoding_and_decoding(frame: XLogData | PrimaryKeepalive) -> None:
    """decode_frame is the inverse of what the walsender writes."""
    assert decode_frame(encode_frame(frame)) == frame


@given(keepalives, st.binary(min_size=1, max_size=20))
def test_a_keepalive_has_one_length(keepalive: PrimaryKeepalive, garbage: bytes) -> None:
    """A keepalive cut short, or with anything behind it, raises ProtocolError."""
    frame = encode_frame(keepalive)
    for broken in [frame + garbage, *(frame[:end] for end in range(len(frame)))]:
        with pytest.raises(ProtocolError):
            decode_frame(broken)


@given(xlog_data)
def test_xlog_data_without_its_whole_header_is_refused(data: XLogData) -> None:
    """XLogData may be empty, but its header is there or ProtocolError is raised."""
    frame = encode_frame(data)
    for end in range(XLOG_DATA_HEADER):
        with pytest.raises(ProtocolError):
            decode_frame(frame[:end])
    assert decode_frame(frame[:XLOG_DATA_HEADER]) == XLogData(
        data.data_start, data.wal_end, data.clock, b""
    )


@given(
    st.one_of(
        st.binary(max_size=40),
        st.tuples(st.sampled_from([b"w", b"k"]), st.binary(max_size=40)).map(b"".join),
    )
)
def test_any_bytes_are_a_frame_or_a_protocol_error(frame: bytes) -> None:
    """Arbitrary bytes never raise anything but ProtocolError."""
    with contextlib.suppress(ProtocolError):
        decode_frame(frame)


@given(frames, st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), min_size=1))
def test_a_mutated_frame_is_a_frame_or_a_protocol_error(
    frame: XLogData | PrimaryKeepalive, edits: list[tuple[int, int]]
) -> None:
    """A valid frame with some bytes changed never raises anything but ProtocolError."""
    content = bytearray(encode_frame(frame))
    for position, byte in edits:
        content[position % len(content)] = byte
    with contextlib.suppress(ProtocolError):
        decode_frame(bytes(content))


def test_an_error_names_no_payload() -> None:
    """What a frame holds never shows in a message that may be logged."""
    with pytest.raises(ProtocolError) as caught:
        decode_frame(b"x" + b"hunter2" * 10)
    assert "hunter2" not in str(caught.value)


def test_a_status_update_is_laid_out_as_the_manual_says() -> None:
    """Byte 'r', then written, flushed, applied and the clock, 8 bytes each, then the reply flag."""
    update = encode_standby_status_update(Lsn(3), Lsn(1), Lsn(2), -4, reply_requested=True)
    assert update == b"r" + bytes.fromhex(
        "0000000000000003 0000000000000001 0000000000000002 fffffffffffffffc 01"
    )
    assert encode_standby_status_update(Lsn(3), Lsn(1), Lsn(2), -4)[-1:] == b"\0"

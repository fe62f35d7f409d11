"""Decoding pgoutput: what a server sent, what one could send, and anything else."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.errors import ProtocolError
from cdc.wire.messages import (
    UNCHANGED,
    Insert,
    Message,
    Relation,
    Type,
    Update,
)
from cdc.wire.pgoutput import decode
from tests.unit.encode import encode
from tests.unit.sent import SENT
from tests.unit.strategies import KINDS, messages


@pytest.mark.parametrize("kind", SENT)
def test_what_a_server_sent_is_understood(kind: str) -> None:
    """Bytes that a real server sent decode to the message that the manual describes."""
    payload, message = SENT[kind]
    assert decode(bytes.fromhex(payload)) == message


@pytest.mark.parametrize("kind", SENT)
def test_the_tests_encoder_writes_as_the_server_does(kind: str) -> None:
    """The encoder that the other tests rely on writes the very bytes that a server sent."""
    payload, message = SENT[kind]
    assert encode(message) == bytes.fromhex(payload)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_every_message_survives_encoding_and_decoding(kind: str, data: st.DataObject) -> None:
    """For each kind of message, decode is the inverse of encode."""
    message = data.draw(KINDS[kind])
    assert decode(encode(message)) == message


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_a_message_has_one_length(kind: str, data: st.DataObject) -> None:
    """A message that ends early, wherever it ends, or has anything behind it is refused."""
    payload = encode(data.draw(KINDS[kind]))
    garbage = data.draw(st.binary(min_size=1, max_size=9))
    for broken in [payload + garbage, *(payload[:end] for end in range(len(payload)))]:
        with pytest.raises(ProtocolError):
            decode(broken)


@given(
    st.one_of(
        st.binary(max_size=60),
        st.tuples(st.sampled_from(b"BCORYIUDTM"), st.binary(max_size=60)).map(
            lambda parts: bytes([parts[0]]) + parts[1]
        ),
    )
)
def test_any_bytes_are_a_message_or_a_protocol_error(payload: bytes) -> None:
    """Arbitrary bytes never raise anything but ProtocolError."""
    with contextlib.suppress(ProtocolError):
        decode(payload)


@given(messages, st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1))
def test_a_mutated_message_is_a_message_or_a_protocol_error(
    message: Message, edits: list[tuple[int, int]]
) -> None:
    """A valid message with some bytes changed never raises anything but ProtocolError."""
    payload = bytearray(encode(message))
    for position, byte in edits:
        payload[position % len(payload)] = byte
    with contextlib.suppress(ProtocolError):
        decode(bytes(payload))


def test_an_unchanged_toast_value_is_the_one_object_that_stands_for_it() -> None:
    """UNCHANGED is compared by identity further on, so decoding yields the object itself."""
    message = decode(encode(Update(1, None, False, (b"1", UNCHANGED))))
    assert isinstance(message, Update)
    assert message.new[1] is UNCHANGED


def test_the_empty_schema_stands_for_pg_catalog() -> None:
    """The manual: a namespace that is the empty string is pg_catalog."""
    assert decode(encode(Type(25, "", "text"))) == Type(25, "pg_catalog", "text")
    relation = Relation(1, "", "pg_class", "d", ())
    assert decode(encode(relation)) == Relation(1, "pg_catalog", "pg_class", "d", ())


def test_a_binary_value_is_refused() -> None:
    """Kind 'b' was never asked for: values in it would be misread as text."""
    payload = encode(Insert(1, (b"x",))).replace(b"t", b"b")
    with pytest.raises(ProtocolError, match="a value of kind n, u or t"):
        decode(payload)


def test_a_count_that_the_message_cannot_hold_is_refused_at_once() -> None:
    """Four billion relations in ten bytes: refused by arithmetic, not by trying to read them."""
    with pytest.raises(ProtocolError, match="4294967295 relations"):
        decode(b"T\xff\xff\xff\xff\x00\x00\x00\x00\x01")


def test_an_error_names_no_value() -> None:
    """What a row holds never shows in a message that may be logged."""
    payload = encode(Insert(1, (b"1", b"hunter2")))
    for broken in (payload[:-1], payload + b"hunter2", payload.replace(b"t", b"x")):
        with pytest.raises(ProtocolError) as caught:
            decode(broken)
        assert "hunter2" not in str(caught.value)

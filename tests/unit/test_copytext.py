"""Rows as lines of COPY text: a reader that follows the manual gets the same values back."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cdc.wire.copytext import decode_line, encode_line
from cdc.wire.messages import Row, Value

# Dense in what has to be escaped; no NUL, which no PostgreSQL text holds.
special = st.sampled_from([b"\\", b"\t", b"\n", b"\r", b"N", b".", b"\\N", b"\\.", b"\\\\N", b"t"])
anything = st.binary(max_size=8).map(lambda value: value.replace(b"\0", b"\\"))
values: st.SearchStrategy[Value] = st.one_of(
    st.none(), st.just(b""), anything, st.lists(special, max_size=4).map(b"".join)
)
rows: st.SearchStrategy[Row] = st.lists(values, min_size=1, max_size=5).map(tuple)

_ESCAPES = {b"\\": b"\\", b"t": b"\t", b"n": b"\n", b"r": b"\r"}


def read_line(line: bytes) -> Row:
    """Read a line as COPY FROM does (manual, COPY, "Text Format")."""
    assert line.endswith(b"\n")
    assert not set(line[:-1]) & set(b"\n\r"), "would end the row early"
    return tuple(map(read_value, line[:-1].split(b"\t")))


def read_value(text: bytes) -> Value:
    """Read one value; a backslash that starts no escape of ours is an error."""
    if text == b"\\N":
        return None
    pieces = text.split(b"\\\\")
    for n, piece in enumerate(pieces):
        head, *escaped = piece.split(b"\\")
        pieces[n] = head + b"".join(_ESCAPES[e[:1]] + e[1:] for e in escaped)
    return b"\\".join(pieces)


@given(rows)
@example((None,))
@example((b"",))
@example((b"\\N",))
@example((b"\\.",))
@example((None, b"\\N", b"", b"\t", None))
def test_a_line_gives_the_row_back(row: Row) -> None:
    """Whatever the values are, they come back: NULL, the empty one, a literal backslash N."""
    assert read_line(encode_line(row)) == row
    assert decode_line(encode_line(row)) == row


@pytest.mark.parametrize("neighbours", [(), (None,), (b"plain",), (b"\t", None)])
def test_every_byte_passes(neighbours: Row) -> None:
    """Each byte but NUL passes, alone and amid others, whichever way its row is encoded."""
    for byte in range(1, 256):
        for value in (bytes([byte]), b"a" + bytes([byte]) + b"b"):
            row = (value, *neighbours, value)
            assert read_line(encode_line(row)) == row


def test_a_plain_row_is_written_as_it_is() -> None:
    """Values are separated by tabs, NULL is backslash N, the line ends in a newline."""
    assert encode_line((b"1", None, b"", b"text")) == b"1\t\\N\t\ttext\n"


def test_a_line_of_the_server_is_read() -> None:
    """It escapes more than it has to: control characters by their letters."""
    line = b"a\\b\\\\c\\v\\f\t\\N\t\n"
    assert decode_line(line) == (b"a\b\\c\v\f", None, b"")


def test_special_bytes_are_escaped() -> None:
    """Backslash, tab, newline and carriage return, and nothing else."""
    assert encode_line((b"a\\b\tc\nd\re\x08\x0b", None)) == b"a\\\\b\\tc\\nd\\re\x08\x0b\t\\N\n"


@pytest.mark.parametrize("value", [b"plain" * 300_000, b"a\tb\\\n" * 300_000])
def test_a_large_row_is_written_as_any_other(value: bytes) -> None:
    """A line that is encoded so that it is copied less is the same line."""
    row = (value, None, b"", b"\r", value)
    lines = [encode_line((one,)).removesuffix(b"\n") for one in row]
    assert encode_line(row) == b"\t".join(lines) + b"\n"
    assert read_line(encode_line(row)) == row

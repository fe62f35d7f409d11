r"""Rows as lines of COPY's text format (manual, COPY, "Text Format").

Values go through as the text that the server sent; what has to be escaped is backslash, tab,
newline and carriage return. Nearly no row holds any of them, so a line is joined first and its
special bytes are counted: a separator between values and a `\N` for each NULL, or else it is
escaped value by value. A large one is escaped value by value at once: counting copies it.
"""

import re
from typing import Final

from cdc.wire.messages import Row, Value

_SPECIAL: Final = b"\\\t\n\r"

# What the server writes with a letter; after a backslash all else stands for itself.
_ESCAPED = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)

# In bytes: from here on a line is copied no more often than it must be.
_LARGE: Final = 1 << 20


def encode_line(row: Row) -> bytes:
    """Return the row as one line, ending in a newline."""
    nulls = 0
    for value in row:
        # By identity: `count` compares each value.
        if value is None:
            nulls += 1
    if nulls:
        line = b"\t".join([b"\\N" if value is None else value for value in row])
    else:
        line = b"\t".join(row)  # type: ignore[arg-type]  # no None in it, as counted above
    if len(line) > _LARGE:
        del line
        return _join(row)
    if len(line) - len(line.translate(None, _SPECIAL)) != len(row) - 1 + nulls:
        return _join(row)
    return line + b"\n"


def _join(row: Row) -> bytes:
    """Return the line of a row that may hold special bytes, joined once."""
    parts: list[bytes] = []
    for value in row:
        parts += (b"\\N" if value is None else _escape(value), b"\t")
    parts[-1:] = [b"\n"]
    return b"".join(parts)


def _escape(value: bytes) -> bytes:
    return (
        value.replace(b"\\", b"\\\\")
        .replace(b"\t", b"\\t")
        .replace(b"\n", b"\\n")
        .replace(b"\r", b"\\r")
    )


def decode_line(line: bytes) -> Row:
    """Return the row that a line of COPY … TO STDOUT holds, as the server writes it."""
    return tuple(map(_unescape, line.rstrip(b"\n").split(b"\t")))


def _unescape(value: bytes) -> Value:
    if b"\\" not in value:
        return value
    if value == b"\\N":
        return None
    return _ESCAPE.sub(lambda match: _ESCAPED.get(match[1], match[1]), value)

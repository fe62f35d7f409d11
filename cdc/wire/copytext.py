r"""Rows as lines of COPY's text format (manual, COPY, "Text Format").

Values go through as the text that the server sent; what has to be escaped is backslash, tab,
newline and carriage return. Nearly no row holds any of them, so a line is joined first and its
special bytes are counted: a separator between values and a `\N` for each NULL, or else it is
escaped value by value.
"""

import re

from cdc.wire.messages import Row, Value

_SPECIAL = b"\\\t\n\r"

# What the server writes with a letter; after a backslash all else stands for itself.
_ESCAPED = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)


def encode_line(row: Row) -> bytes:
    """Return the row as one line, ending in a newline."""
    nulls = row.count(None)
    if nulls:
        line = b"\t".join([b"\\N" if value is None else value for value in row])
    else:
        line = b"\t".join(row)  # type: ignore[arg-type]  # no None in it, as counted above
    if len(line) - len(line.translate(None, _SPECIAL)) != len(row) - 1 + nulls:
        line = b"\t".join([b"\\N" if value is None else _escape(value) for value in row])
    return line + b"\n"


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

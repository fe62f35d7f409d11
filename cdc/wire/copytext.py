r"""Rows as lines of COPY's text format (manual, COPY, "Text Format").

Values go through as the text that the server sent; what has to be escaped is backslash, tab,
newline and carriage return. Nearly no row holds any of them, so a line is joined first and its
special bytes are counted: a separator between values and a `\N` for each NULL, or else it is
escaped value by value.
"""

from cdc.wire.messages import Row

_SPECIAL = b"\\\t\n\r"


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

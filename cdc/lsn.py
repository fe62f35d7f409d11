"""Log sequence numbers: a byte position in the source's WAL (manual, "WAL Internals").

An LSN is an int here and text only at the borders, so that it compares and subtracts. Converting is
all that this module does; what an LSN means is the business of who holds it.
"""

import re
from typing import NewType

Lsn = NewType("Lsn", int)

INVALID: Lsn = Lsn(0)

_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")


def parse_lsn(text: str) -> Lsn:
    """Return the LSN written as the server writes it, `16/B374D848`; raise ValueError otherwise."""
    match = _LSN.fullmatch(text)
    if match is None:
        raise ValueError(f"not an LSN: {text!r}")
    return Lsn(int(match[1], 16) << 32 | int(match[2], 16))


def format_lsn(lsn: int) -> str:
    """Return the LSN as the server writes it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"

"""LSNs between numbers and the server's text."""

import pytest
from hypothesis import given

from cdc.lsn import Lsn, format_lsn, parse_lsn
from tests.unit.strategies import lsns


@given(lsns)
def test_an_lsn_survives_its_text(lsn: Lsn) -> None:
    """parse_lsn is the inverse of format_lsn."""
    assert parse_lsn(format_lsn(lsn)) == lsn


@pytest.mark.parametrize(
    ("text", "lsn"),
    [
        ("0/0", 0),
        ("16/B374D848", 0x16B374D848),
        ("16/b374d848", 0x16B374D848),
        ("1/2", 0x100000002),
        ("0/0173E030", 0x173E030),
        ("FFFFFFFF/FFFFFFFF", 2**64 - 1),
    ],
)
def test_an_lsn_is_read_as_the_server_writes_it(text: str, lsn: int) -> None:
    """Two hexadecimal halves of 32 bits; the second is not padded."""
    assert parse_lsn(text) == lsn


@pytest.mark.parametrize(
    "text",
    ["", "/", "0", "0/", "/0", "g/0", "0/0/0", "-1/0", "0x1/0", "1/123456789", " 0/0", "0/0\n"],
)
def test_what_is_no_lsn_is_refused(text: str) -> None:
    """Anything else raises ValueError; nothing is guessed."""
    with pytest.raises(ValueError, match="not an LSN"):
        parse_lsn(text)


def test_an_lsn_is_written_as_the_server_writes_it() -> None:
    """Upper case, without leading zeros."""
    assert format_lsn(0x16B374D848) == "16/B374D848"
    assert format_lsn(0x100000002) == "1/2"

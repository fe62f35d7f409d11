"""Statements of others as a message shows them."""

import pytest

from cdc.postgres.masked import masked

SHOWN = {
    "select 1": "select ?",
    "update credit.t set a = 'secret', b = -4.5e3 where id2 = $1": (
        "update credit.t set a = '…', b = -? where id2 = $1"
    ),
    "lock table credit.account in share mode": "lock table credit.account in share mode",
    "select 'it''s secret' , \"it's a name\"": "select '…' , \"it's a name\"",
    "select e'a\\' secret' , b": "select '…' , b",
    "select E'secret": "select '…'",
    "select 'secret, cut off by the serv": "select '…'",
    "select date'2020-01-01'": "select date'…'",
    "select $$secret ' $$, $x$ secret $$ $x$, 'y'": "select '…', '…', '…'",
    "select $$secret": "select '…'",
    "select 1 -- it's secret\n, 'x' ": "select ? , '…'",
    "select /* it's secret */ 'x'": "select '…'",
    "select /* a /* b */ it's */ 'secret'": "select",
    "select 'a\\' , 'secret'": "select '…'",
    "  select\n\t a": "select a",
    "select b'0101', x'1F', n'secret', u&'secret', 0x1F, 1_000": (
        "select b'…', x'…', n'…', u&'…', ?, ?"
    ),
}


@pytest.mark.parametrize("statement", SHOWN)
def test_no_value_is_shown(statement: str) -> None:
    """Names stay; texts, numbers and remarks go, however they are quoted."""
    assert masked(statement) == SHOWN[statement]


def test_a_long_statement_is_cut() -> None:
    """What is too long for a line ends with a sign of it."""
    shown = masked(f"select {'a, ' * 200}")
    assert (len(shown), shown[-1]) == (100, "…")

"""The text of wal2json's lines: values as the server wrote them, types, LSNs and times."""

import datetime as dt

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cdc.errors import ProtocolError
from cdc.lsn import Lsn
from cdc.postgres.types import holds
from cdc.wire.jsonline import Field, parse, text, time_of, type_of
from cdc.wire.layout import Shape, ShapeColumn
from cdc.wire.messages import UNKNOWN_TYPE, Insert, Value
from cdc.wire.wal2json import Decoder, ShapeUnknown
from tests.unit.lines import (
    BYTEA,
    INTEGER,
    NUMERIC,
    STAMP,
    STAMP_US,
    TEXT,
    Sent,
    begin,
    change,
    commit,
    message,
)


def field(kind: str, oid: int, value: str) -> Field:
    """Give the one column of a line with this type and JSON value."""
    line = (
        '{"action":"I","schema":"s","table":"t","columns":[{"name":"a",'
        f'"type":{kind},"typeoid":{oid},"value":{value},"position":1}}]}}'
    )
    columns = parse(line.encode()).columns
    assert columns is not None
    return columns[0]


@pytest.mark.parametrize(
    ("oid", "value", "expected"),
    [
        (INTEGER, "-2147483648", b"-2147483648"),
        (20, "9223372036854775807", b"9223372036854775807"),
        (26, "4294967295", b"4294967295"),
        (NUMERIC, "9" * 1000, b"9" * 1000),
        (NUMERIC, "1.500", b"1.500"),
        (NUMERIC, "0." + "3" * 900, b"0." + b"3" * 900),
        (700, "1e-45", b"1e-45"),
        (701, "-0", b"-0"),
        (701, "1.7976931348623157e+308", b"1.7976931348623157e+308"),
        (701, "null", None),
        (701, '"NaN"', b"NaN"),  # numeric-data-types-as-string
        (NUMERIC, '"1.50"', b"1.50"),
        (16, "true", b"t"),
        (16, "false", b"f"),
        (16403, '"t"', b"t"),  # a domain over boolean
        (BYTEA, '"00ff"', b"\\x00ff"),
        (BYTEA, '""', b"\\x"),
        (BYTEA, "null", None),
        (16405, r'"\\x0102"', rb"\x0102"),  # a domain over bytea
        (1001, r'"{\"\\\\x00\",NULL}"', rb'{"\\x00",NULL}'),
        (18, r'"\\377"', rb"\377"),
        (TEXT, '""', b""),
        (TEXT, '"null"', b"null"),
        (TEXT, r'"tab\tquote\"\u0001\\N"', b'tab\tquote"\x01\\N'),
        (TEXT, '"é 🏦"', "é 🏦".encode()),
        (114, r'"{\"a\": 1.0,   \"a\":2}"', b'{"a": 1.0,   "a":2}'),
    ],
)
def test_a_value_is_the_text_that_the_server_wrote(oid: int, value: str, expected: Value) -> None:
    """No number becomes one of ours, bytea gets its prefix back, the rest is unescaped."""
    assert text(field('"x"', oid, value)) == expected


@pytest.mark.parametrize("value", ["{}", "[1]", '{"a":1}'])
def test_a_value_that_no_type_has_is_refused(value: str) -> None:
    """The plugin writes neither objects nor arrays."""
    with pytest.raises(ProtocolError):
        text(field('"x"', TEXT, value))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ('"char"', "char"),  # the type "char", whose quotes are taken for JSON's
        ('"My Schema".mood', '"My Schema".mood'),
        ('"a "",b"."C"', '"a "",b"."C"'),
        (r'"\"My Schema\".mood[]"', '"My Schema".mood[]'),
    ],
)
def test_a_types_name_that_is_not_escaped_is_mended(kind: str, expected: str) -> None:
    """The plugin writes a name that begins with a quote as it is; the rest of the line holds."""
    found = field(kind, 16400, r'"a,\"type\":\"x\",\"typeoid\":1"')
    assert found.type == expected
    assert text(found) == b'a,"type":"x","typeoid":1'


@pytest.mark.parametrize(
    ("name", "oid", "modifier"),
    [
        ("integer", 23, -1),
        ("numeric", 1700, -1),
        ("numeric(20,4)", 1700, (20 << 16 | 4) + 4),
        ("numeric(3,-2)", 1700, (3 << 16 | (-2 & 0x7FF)) + 4),
        ("numeric(20,4)[]", 1231, (20 << 16 | 4) + 4),
        ("character varying(7)", 1043, 11),
        ("character(5)", 1042, 9),
        ("bit(3)", 1560, 3),
        ("bit varying(3)", 1562, 3),
        ("timestamp(3) with time zone", 1184, 3),
        ("time(0) without time zone[]", 1183, 0),
        ("credit.mood", 16400, -1),
    ],
)
def test_a_type_and_its_modifier(name: str, oid: int, modifier: int) -> None:
    """As a Relation message has them, so that a narrower column of the target is found."""
    assert type_of(field(f'"{name}"', oid, "null")) == (oid, modifier)


def test_a_modifier_that_cannot_be_told() -> None:
    """Then nothing is claimed of the type; an oid beyond 2^31 is written as a negative number."""
    assert type_of(field('"interval(3)"', 1186, "null")) == (UNKNOWN_TYPE, -1)
    assert holds(1186, 3, source_type_oid=UNKNOWN_TYPE, source_modifier=-1) is None
    assert type_of(field('"credit.mood"', -2, "null")) == (2**32 - 2, -1)


@given(
    st.datetimes(min_value=dt.datetime(1900, 1, 1), max_value=dt.datetime(9999, 12, 31)),  # noqa: DTZ001
    st.booleans(),
)
def test_a_time_is_exact(moment: dt.datetime, trimmed: bool) -> None:  # noqa: FBT001
    """Microseconds since 2000, without rounding; trailing zeros may be left out."""
    written = moment.strftime("%Y-%m-%d %H:%M:%S.%f")
    if trimmed:
        written = written.rstrip("0").rstrip(".")
    expected = (moment - dt.datetime(2000, 1, 1)) // dt.timedelta(microseconds=1)  # noqa: DTZ001
    assert time_of(written + "+00") == expected
    assert time_of(STAMP) == STAMP_US


# PostgreSQL has no NUL in any text.
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@given(texts)
@example('","type":"x","typeoid":1,"value":"')
def test_any_text_arrives(value: str) -> None:
    """Whatever it looks like, and whatever else stands in the line."""
    line = change("I", [Sent("id", value.encode()), Sent(value or "b", None, number=2)])
    columns = parse(line).columns
    assert columns is not None
    assert text(columns[0]) == value.encode()
    assert columns[1].name == (value or "b")


LINES = [
    begin(),
    commit(),
    message("text"),
    change("T"),
    change("I", [Sent("id", b"1", INTEGER), Sent("b", b'quo"te', number=2)]),
    change(
        "U", [Sent("id", b"1", INTEGER), Sent("b", b"x", number=2)], [Sent("id", b"1", INTEGER)]
    ),
    change("D", None, [Sent("id", b"1", INTEGER)]),
    change("I", [Sent("id", b"a", 16400, type="RAW")]).replace(b'"RAW"', b'"My S".x'),
]
ID = Sent("id", b"1", INTEGER)
SHAPE = Shape(
    columns=(
        ShapeColumn("id", 1, True, INTEGER, -1, False, False),
        ShapeColumn("b", 2, False, TEXT, -1, True, False),
    )
)


@given(st.sampled_from(LINES), st.data())
def test_any_bytes_give_messages_or_an_error_of_ours(line: bytes, data: st.DataObject) -> None:
    """Any truncation or mutation of a line, and anything at all."""
    start = data.draw(st.integers(0, len(line)))
    end = data.draw(st.integers(start, min(len(line), start + 8)))
    mutation = data.draw(
        st.one_of(st.binary(max_size=4), st.sampled_from([b'"', b"\\", b"{", b","]))
    )
    broken = data.draw(
        st.sampled_from([line[:start], line[:start] + mutation + line[end:], mutation])
    )
    decoder = Decoder()
    decoder.learn("credit", "t", SHAPE, Lsn(1 << 60))
    for payload in (line, broken):
        try:
            decoded = decoder.decode(payload)
        except (ProtocolError, ShapeUnknown):
            assert payload is not line
        else:
            rows = [m.new for m in decoded if isinstance(m, Insert)]
            assert all(value is None or isinstance(value, bytes) for row in rows for value in row)


@given(st.binary(max_size=64))
@example(b"[" * 100_000)
def test_anything_at_all(payload: bytes) -> None:
    """Bytes that were never a line."""
    with pytest.raises(ProtocolError):
        Decoder().decode(payload)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b"[]",
        b'{"action":"X"}',
        b'{"action":"I","schema":"credit","table":"t"}',
        b'{"action":"D","schema":"credit","table":"t"}',
        change("U", [ID]),  # a table without a replica identity
        change("I", [ID, Sent("b", b"x", number=1)]),
        change("I", [Sent("b", b"x", number=2), ID]),
        change("I", [ID, Sent("id", b"x", number=2)]),
        change("I", [Sent("id", b"{}", INTEGER)]),
        change("I", [Sent("id", b"01", INTEGER)]),
        begin().replace(b"+00", b"+01"),
        begin().replace(b"0/100", b"0"),
        begin() + b"x",
    ],
)
def test_what_is_no_line_is_refused(payload: bytes) -> None:
    """Nothing is guessed: columns out of order, a name twice, a value that is no value."""
    decoder = Decoder()
    decoder.learn("credit", "t", SHAPE, Lsn(1 << 60))
    with pytest.raises(ProtocolError):
        decoder.decode(payload)

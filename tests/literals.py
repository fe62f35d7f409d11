"""Literals of every type, the awkward ones: what the tests of types and of keys write.

The types of `TYPES` are in schema credit, which has to be there.
"""

import psycopg

from tests.databases import fetch
from tests.oracle import run
from tests.pair import Pair

# For each type: literals that its input function takes, the awkward ones.
VALUES: dict[str, tuple[str, ...]] = {
    "smallint": ("-32768", "32767"),
    "integer": ("-2147483648", "2147483647"),
    "bigint": ("-9223372036854775808", "9223372036854775807"),
    "numeric": ("NaN", "Infinity", "-Infinity", "0.00", "1e-20", "9" * 1000, f"0.{'3' * 900}"),
    "numeric(20,4)": ("0.0001", "-9999999999999999.9999", "NaN"),
    "real": (
        *("NaN", "Infinity", "-Infinity", "-0", "1e-45", "-1.17549421e-38", "0.1", "3.4028235e38"),
        "16777217",
    ),
    "double precision": (
        *("NaN", "Infinity", "-Infinity", "-0", "5e-324", "-2.2250738585072011e-308"),
        *("0.30000000000000004", "1.7976931348623157e308", "9007199254740993"),
    ),
    "money": ("-92233720368547758.08", "0.01"),
    "boolean": ("t", "f"),
    "text": ("", " ", "\\N", "\\.", "tab\tnew\nreturn\rback\\slash", "é 🏦 \u200b", "NULL", "'\""),
    "varchar(7)": ("", "1234567"),
    "char(5)": ("", "a", "abcde"),
    '"char"': ("", "a", "\\377"),
    "name": ("n" * 63,),
    "bytea": ("", "\\x00", "\\x0a5c09ff", "\\xdeadbeef"),
    "timestamp": ("infinity", "-infinity", "0044-03-15 12:00:00.000001 BC", "294276-12-31"),
    "timestamptz": (
        *("infinity", "1883-11-18 12:03:57.999999-07:52:58", "4713-01-01 00:00 BC"),
        *("2026-03-29 02:30 Europe/Berlin", "2011-12-30 00:00 Pacific/Apia", "294276-12-31+15:59"),
    ),
    "date": ("infinity", "-infinity", "4713-01-01 BC", "5874897-12-31"),
    "time": ("00:00", "24:00:00", "23:59:59.999999"),
    "timetz": ("00:00-15:59", "24:00:00+15:59", "12:00:00.000001+05:45"),
    "interval": (
        *("-1 years +2 mons -3 days +04:05:06.000007", "178000000 years", "00:00:00"),
        *("-00:00:00.000001", "1 mon -1 days", "-1 mons +1 day", "P-1Y-2M3DT-4H-5M-6.7S"),
        "-178000000 years -9223372036854.775807 seconds",
    ),
    "uuid": ("00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
    "json": ('{"a": 1.0, "a": 2}', "[ ]", '"\\u0041"', "null", "1e400"),
    "jsonb": (
        '{"b": 1.00, "a": [null, true]}',
        '"tab\\tquote\\""',
        "123456789012345678901234567890.10",
    ),
    "xml": ("<a b='c'>d</a>",),
    "inet": ("10.0.0.1", "10.0.0.1/8", "::1", "2001:db8::/32"),
    "cidr": ("10.0.0.0/8", "::/0"),
    "macaddr": ("08:00:2b:01:02:03",),
    "macaddr8": ("08:00:2b:01:02:03:04:05",),
    "bit(3)": ("101",),
    "bit varying": ("", "0000000000000001"),
    "point": ("(1.1,-0)", "(NaN,Infinity)"),
    "line": ("{1,2,3}",),
    "lseg": ("[(0,0),(1,1)]",),
    "box": ("(1,1),(0,0)",),
    "path": ("((0,0),(1,1))", "[(0,0),(1,1)]"),
    "polygon": ("((0,0),(1,1),(1,0))",),
    "circle": ("<(0.1,0.2),3>",),
    "int4range": ("empty", "[1,10)", "(,)"),
    "numrange": ("[1.0,2.00]", "(,5)"),
    "tstzrange": ('["2020-01-01 00:00+00",infinity]',),
    "int8multirange": ("{}", "{[1,3),[7,9)}"),
    "nummultirange": ("{[1.0,1.50],(2,3)}",),
    "tsvector": ("'a':1A 'it''s':2,3", ""),
    "tsquery": ("'a' & !'b' <-> 'c'",),
    "pg_lsn": ("16/B374D848", "0/0"),
    "xid8": ("18446744073709551615",),
    "oid": ("4294967295",),
    "regclass": ("pg_class", "-"),
    "regtype": ("integer",),
    "jsonpath": ('$."a"[*]?(@ > 1)',),
    "integer[]": ("{}", "{1,NULL}", "[-1:1]={1,2,3}", "{{1,2},{3,NULL}}"),
    "text[]": ('{"",NULL,"NULL"," ","a,b","{}","q\\"b\\\\"}',),
    "numeric[]": ("{1.0,1.00,NaN}",),
    "timestamptz[]": ('{"2020-01-01 00:00+00",infinity}',),
    "bytea[]": ('{"\\\\x00ff",NULL}',),
    "jsonb[]": ('{"{\\"a\\": 1}",NULL}',),
    "credit.mood": ("happy", 'it\'s "so", so'),
    "credit.mood[]": ("{happy,NULL}",),
    "credit.positive": ("1.50", "NaN"),
    "credit.positive[]": ("{1.50,NULL}",),
    "credit.pair": ('(1.0,"a,""b""")', "(,)", '(NaN,"")'),
    "credit.pair[]": ('{"(1.0,\\"a b\\")",NULL}',),
    "credit.span": ("[1.0,2.00)",),
    'credit."select"': ("a",),
    'credit."a ""b"".c"[]': ('{"(1,\\"{a,NULL}\\",\\"(1.0,x)\\")",NULL}', "{}"),
    "credit.moods": ("[happy,)", "empty"),
    "credit.amounts": ("{1.50,NULL}", "[0:1]={1,2.0}"),
    "credit.amounts[]": ('{"{1.50,NULL}","[0:1]={1,2.0}"}',),
    "credit.span[]": ('{"[1.0,2.00)",NULL,empty}',),
    "credit.mood[][]": ('[-1:0][2:2]={{happy},{"it\'s \\"so\\", so"}}',),
    "nummultirange[]": ('{"{[1.0,1.50],(2,3)}","{}"}',),
    "tstzmultirange": ('{["2020-01-01 00:00 Asia/Kathmandu",infinity),(,"0044-03-15 BC")}',),
    "float8[]": ("{5e-324,-0,NaN,0.30000000000000004,NULL}",),
    "regprocedure": ("pg_catalog.lower(text)", "-"),
    "regoperator": ("pg_catalog.=(integer,integer)",),
    "regnamespace": ("credit",),
    "regrole": ("postgres",),
    "regcollation": ('"C"',),
    "regconfig": ("simple",),
    "tid": ("(4294967295,65535)",),
    "xid": ("4294967295",),
    "pg_snapshot": ("10:20:10,14,15",),
    "int2vector": ("1 -2 3", ""),
    "oidvector": ("1 4294967295",),
    "aclitem[]": ("{postgres=r*w/postgres,=r/postgres}",),
    "refcursor": ("a cursor",),
}

TYPES = (
    "create type credit.mood as enum ('happy', 'it''s \"so\", so')",
    "create domain credit.positive as numeric check (value > 0)",
    "create type credit.pair as (n numeric, t text)",
    "create type credit.span as range (subtype = numeric)",
    "create type credit.moods as range (subtype = credit.mood)",
    "create domain credit.amounts as credit.positive[]",
    "create type credit.\"select\" as enum ('a')",
    'create type credit."a ""b"".c" as (n int, "user" text[], p credit.pair)',
)

# Finite ones alone before it.
_INFINITE_INTERVALS_VERSION = 170000


def literals(pair: Pair) -> dict[str, tuple[str, ...]]:
    """Give the types that both servers of the pair have, with the values that its plugin sends."""
    known = dict(VALUES)
    if not has_xml(pair):
        del known["xml"]
    version = "select current_setting('server_version_num')::int"
    versions = [fetch(dsn, version) for dsn in (pair.source_dsn, pair.target_dsn)]
    if min(int(str(number)) for (number,) in versions) >= _INFINITE_INTERVALS_VERSION:
        known["interval"] += ("infinity", "-infinity")
    if pair.plugin == "wal2json":
        known = {kind: carried(kind, values) for kind, values in known.items()}
    return known


def carried(kind: str, values: tuple[str, ...]) -> tuple[str, ...]:
    """Give the values that wal2json 2.5 does not send as null: JSON has no word for the others."""
    if kind not in {"numeric", "numeric(20,4)", "real", "double precision"}:
        return values
    return tuple(value for value in values if value.strip("-") not in {"NaN", "Infinity"})


def has_xml(pair: Pair) -> bool:
    """Tell whether both servers were built with XML."""
    try:
        for dsn in (pair.source_dsn, pair.target_dsn):
            run(dsn, "select '<a/>'::xml")
    except psycopg.errors.FeatureNotSupported:
        return False
    return True


def literal(value: str) -> str:
    """Write a text as an SQL literal."""
    return "e'" + value.replace("\\", "\\\\").replace("'", "''") + "'"

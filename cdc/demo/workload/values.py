"""Values that a careless copy would change: what the live workload writes beside ordinary ones.

Each function picks one, as text that PostgreSQL reads (floats, bytes and None apart), from a seeded
random source. All of them are valid for the columns of the credit schema that they are named after.
"""

import uuid
from random import Random

TEXTS = (
    None,
    "",
    " ",
    "NULL",
    "\\N",  # what COPY takes for NULL
    "\\.",  # what COPY takes for the end
    "back\\slash \\t \\x41",
    "tab\tand\vfeeds\f",
    "two\nlines",
    "carriage\rreturn\r\n",
    'it\'s a "quoted" text, {with} (braces)',
    "100 % $1 %s :name",
    "Zürich, Łódź, 東京, 🏦, e\u0301",
    "\u00a0\u200b\u2028\ufeff",
    "\x01\x1b\x7f",
)
NUMERICS = (
    "0",
    "0.00",
    "1.10",
    "-0.000000000000000000000000000000000000000001",
    "123456789012345678901234567890.123456789012345678901234567890",
    "1e100",
    "NaN",
    "Infinity",
    "-Infinity",
)
NUMERIC_ARRAYS = ("{}", "{1.50,NULL,NaN}", "[0:1]={1,2}", "{{1,2},{3,4}}")
TEXT_ARRAYS = ("{}", '{NULL,"NULL",""," ","a,b","{}","q\\"","b\\\\","\n"}', "[-1:0]={x,y}")
FLOATS = (
    0.1 + 0.2,
    1 / 3,
    -0.0,
    5e-324,
    1.7976931348623157e308,
    123456.78901234567,
    float("inf"),
    float("-inf"),
    float("nan"),
)
DATES = ("infinity", "-infinity", "0044-03-15 BC", "1582-10-10", "2024-02-29", "9999-12-31", None)
TIMESTAMPS = (
    "infinity",
    "-infinity",
    "0001-12-31 23:59:59.999999+00 BC",
    "1900-01-01 00:00:00+00:19:32",
    "2026-03-29 01:30:00.000001+01",
    "9999-12-31 23:59:59.999999-12",
)
INTERVALS = (
    "0",
    "-3 days",
    "1 mon -2 days +03:04:05.000006",
    "-1 years -2 mons +3 days -04:05:06.7",
    "178000000 years",
    "-00:00:00.000001",
)
ADDRESSES = ("0.0.0.0/0", "192.168.1.5/24", "::1", "2001:db8::ff00:42:8329/64", None)
JSONS = (
    None,
    "null",
    "{}",
    '"\\u00e9 \\ud83c\\udfe6 \\\\ \\n"',
    '{"a" : 1,   "a": 2, "": [1.0, 1e400, -0, 12345678901234567890.123]}',
    '{"text": "tab\\tquote\\" 東京", "nested": {"deep": [null, true, [[]]]}}',
)


def text(rng: Random) -> str | None:
    """Pick a text, or NULL."""
    return rng.choice(TEXTS)


def numeric(rng: Random) -> str:
    """Pick a number of any size, or one that is none."""
    return rng.choice(NUMERICS)


def money(rng: Random) -> str:
    """Make an ordinary amount, above zero, with four digits after the point."""
    return f"{rng.randrange(1, 10_000_000)}.{rng.randrange(10_000):04}"


def float8(rng: Random) -> float:
    """Pick a float that needs 17 digits, or one at the edge."""
    return rng.choice((rng.random(), *FLOATS))


def binary(rng: Random) -> bytes:
    """Make some bytes, or none."""
    return rng.randbytes(rng.choice((0, 1, 32, 300)))


def long_text(rng: Random) -> str:
    """Make a text that is stored out of line, of 2 kB to 60 kB."""
    return f"{rng.getrandbits(64):x} \\ 東\n" * rng.choice((150, 400, 3000))


def document_json(rng: Random) -> str:
    """Make JSON that does not compress below the TOAST threshold."""
    return f'{{"text": "{rng.randbytes(rng.choice((2000, 5000))).hex()}"}}'


def key(rng: Random) -> uuid.UUID:
    """Make a new key."""
    return uuid.UUID(int=rng.getrandbits(128), version=4)

"""Statements of others as a message may show them: what is done to what, without a value.

A value stands in a statement as a literal, so texts, numbers and remarks go. What is cut off by the
server's track_activity_query_size in the middle of a literal is a literal to its end.
"""

import re

_LENGTH = 100

# In this order: whoever comes first swallows the quotes of those that come later. In doubt all the
# rest goes: a remark inside a remark, a backslash in a text that may or may not escape.
_TOKEN = re.compile(
    r"""
      (?P<remark>  --[^\n]* | /\*(?:(?!/\*).)*?\*/ | /\*.*\Z )
    | (?P<name>    "(?:[^"]|"")*(?:"|\Z) | [^\W\d][\w$]*(?!['\w$]) )
    | (?P<text>    (?<![\w$])[eE]'(?:[^'\\]|\\.|'')*(?:'|\\?\Z)
                 | '(?:[^'\\]|'')*(?:'|\Z) | '.*\Z
                 | \$(?P<tag>(?:[^\W\d]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z) )
    | (?P<number>  (?<!\$)\b\d[\w.]* )
    """,
    re.VERBOSE | re.DOTALL,
)


def masked(statement: str) -> str:
    """Return a statement on one line, cut to a readable length, without values."""
    shown = " ".join(_TOKEN.sub(_replace, statement).split())
    return shown if len(shown) <= _LENGTH else f"{shown[: _LENGTH - 1]}…"


def _replace(token: re.Match[str]) -> str:
    match token.lastgroup:
        case "remark":
            return " "
        case "name":
            return token[0]
        case "number":
            return "?"
        case _:
            return "'…'"

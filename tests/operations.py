"""What may happen on a source, drawn at random: one generator for a model and for real servers.

An `Operation` is no statement and no message: `tests.unit.model` turns it into the messages that a
server would send, `tests.sql_source` into SQL that a server runs. Each does it as far as its rows
and constraints allow it, and otherwise nothing.
"""

from dataclasses import dataclass
from itertools import product
from typing import Final, Literal, TypeAlias

from hypothesis import strategies as st

TOASTED: Final = "body"
"""The column whose value is left out of an Update that leaves it alone."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A table of schema `credit`."""

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    """Empty: rows are told apart by all their values, and some are equal in all."""
    is_full: bool = False
    """REPLICA IDENTITY FULL."""


# Rows refer to a row (`link`) and own a value that no other row has (`unit`).
TABLES = (
    Shape("single", ("id", "unit", "link", "note", TOASTED), ("id",)),
    Shape("composite", ("a", TOASTED, "b", "note", "unit", "link"), ("a", "b")),
    Shape("full", ("note", TOASTED, "id", "unit", "link"), ("id",), is_full=True),
    Shape("bag", ("note", TOASTED, "id", "link"), (), is_full=True),
    # Its keys are equal as numbers where they differ as texts.
    Shape("number", ("note", TOASTED, "id", "unit"), ("id",)),
)

ROWS = 3
"""Rows that a table may have: so few that operations meet on them."""
MANY = range(10, 36)
"""Rows that come and go by one statement: so many that the target stages them."""
TEMPORARY = 9
"""The row that keys pass through while two rows swap theirs."""

Kind: TypeAlias = Literal[
    "insert", "update", "delete", "rekey", "swap", "trade", "reinsert", "truncate", "reshape",
    "announce", "insert_many", "update_many", "delete_many", "savepoint", "rollback", "commit",
    "take",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Operation:
    """Something that happens on the source, or between it and the builder (`take`)."""

    kind: Kind
    table: int
    row: int
    other: int
    keep: bool
    """Leave the toasted column alone; insert with a link; truncate or delete all that hangs on."""
    null: bool
    """If not, set it to NULL; set no link; write a number with one digit more; undo all of it."""


# As often as they are here; PostgreSQL could send any of them at any time. What shrinks, shrinks
# towards the first.
KINDS: list[Kind] = [
    *("insert", "insert", "insert", "insert", "update", "update", "update", "update", "update"),
    *("delete", "delete", "delete", "rekey", "rekey", "swap", "trade", "reinsert", "truncate"),
    *("insert_many", "update_many", "update_many", "delete_many", "commit", "commit", "take"),
    *("savepoint", "rollback", "reshape", "announce"),
]
OPERATIONS = [
    Operation(kind, table, row, other, keep, null)
    for kind, table, row, other, keep, null in product(
        KINDS, range(len(TABLES)), range(ROWS), range(ROWS), (True, False), (False, True)
    )
]


def op(kind: Kind, row: int = 0, other: int = 0, *, table: int = 0, keep: bool = True) -> Operation:
    """Name an operation by what matters of it."""
    return Operation(kind, table, row, other, keep, null=False)


def described(operations: list[Operation]) -> str:
    """Return operations for people."""
    return "; ".join(
        f"{o.kind} {TABLES[o.table].name} {o.row}>{o.other}{' keep' * o.keep}{' null' * o.null}"
        for o in operations
    )


def read_history(code: bytes) -> list[Operation]:
    """Read two bytes as an operation: Hypothesis draws bytes evenly, and hundreds at once."""
    indices = [high << 8 | low for high, low in zip(code[::2], code[1::2], strict=False)]
    return [OPERATIONS[index % len(OPERATIONS)] for index in indices]


FILLED = [
    *(op("insert", row, table=table, keep=False) for table in (4, 0) for row in range(ROWS)),
    *(
        op("insert", row, (row + 1) % ROWS, table=table)
        for table in (1, 2, 3)
        for row in range(ROWS)
    ),
    *(op("insert", 1, 2, table=3), op("insert_many", table=0, keep=False)),
    *(op("insert_many", table=1, keep=False), op("commit"), op("take")),
]
"""Some rows in each table, with links: operations on empty tables do nothing."""

# Hypothesis likes them short; what goes wrong late needs long ones.
histories = st.builds(
    lambda start, code: [*start, *read_history(code)],
    st.sampled_from([FILLED, FILLED, []]),
    st.one_of(st.binary(max_size=24), st.binary(min_size=60, max_size=120)),
)

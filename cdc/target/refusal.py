"""What is said of a change that the target refuses: by name, never with a value of its row.

The server's own message may quote a value, so only its fields go on: SQLSTATE, constraint, column,
type. Nothing is decided here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import psycopg

from cdc.changes.change import Change
from cdc.changes.fold import Truncation
from cdc.changes.relations import Table
from cdc.errors import ChangeRefused
from cdc.lsn import Lsn, format_lsn


@dataclass(slots=True, frozen=True)
class Refusal:
    """Why a change could not be applied."""

    reason: str
    sqlstate: str | None
    whole_table: bool = False
    """It is the table that is wrong: every later change of it waits."""


def described(change: Change | Truncation) -> str:
    """Return what may be said of a change: its tables and their key columns."""
    return ", ".join(_described(change.tables))


def _described(tables: Sequence[Table]) -> Iterator[str]:
    for table in tables:
        yield f"{table} (key {', '.join(table.key_columns) or 'none'})"


def refusal(error: psycopg.Error, what: str | None, lsn: Lsn) -> ChangeRefused:
    """Return the error of a change that the target refuses, without a value of its row.

    Without `what`, of a commit: a deferred constraint knows the table that it is of.
    """
    what = what or f"{error.diag.schema_name}.{error.diag.table_name}"
    return ChangeRefused(
        f"the target refuses a change of {what} in the transaction that ends at"
        f" {format_lsn(lsn)}: {reason(error)}",
        hint="make the target's table accept it (psql's `\\d` on both sides shows how they"
        " differ), then start the daemon again: it goes on from this transaction"
        " (CDC_APPLY_ON_ERROR=quarantine would let it wait, and others go on)",
    )


def refused_copy(error: psycopg.Error, table: str) -> ChangeRefused:
    """Return the error of an initial copy that cannot be made, without a value of a row."""
    return ChangeRefused(
        f"{table} cannot be copied: {reason(error)}",
        hint="make the target's table accept the source's rows (`cdc check` shows how the two"
        " differ), then run `cdc init` again",
    )


def reason(error: psycopg.Error) -> str:
    """Return what the target says of a refusal, by name: never its message, which quotes values."""
    diag = error.diag
    where = [
        f"{name} {value}"
        for name, value in (
            ("constraint", diag.constraint_name),
            ("column", diag.column_name),
            ("type", diag.datatype_name),
        )
        if value
    ]
    return " ".join([f"{type(error).__name__} ({error.sqlstate})", *where])

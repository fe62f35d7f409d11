"""Changes applied one at a time in source order, to find the one that the target refuses.

The last of three ways to write a batch (`target.apply`), slow on purpose: a change runs alone, so
that it can be named, with its relation, constraint, key columns and the LSN of its transaction.
Never with the row's values: the server's own message may quote them, so only its fields go on.
"""

from collections.abc import Iterable

import psycopg
from psycopg import AsyncRawCursor

from cdc.backoff import Verdict, judge
from cdc.changes.relations import Table
from cdc.errors import ChangeRefused
from cdc.lsn import Lsn, format_lsn
from cdc.target.statements import Execute


async def replay(
    cursor: AsyncRawCursor[tuple[object, ...]],
    changes: Iterable[tuple[tuple[Table, ...], Execute]],
    lsn: Lsn,
) -> None:
    """Run changes of the transaction that ends at `lsn` inside the one that is open here.

    Raises ChangeRefused for the first that the target refuses, psycopg.Error for anything else.
    """
    for tables, action in changes:
        what = ", ".join(map(_described, tables))
        try:
            if action.before is not None:
                await cursor.execute(action.before.sql, action.before.parameters)
            await cursor.execute(action.sql, action.parameters, prepare=True)
            missing = action.rows is not None and cursor.rowcount != action.rows
            if missing and action.otherwise is not None:
                await cursor.execute(action.otherwise.sql, action.otherwise.parameters)
        except psycopg.Error as ex:
            if judge(ex) is not Verdict.REPLAY:
                raise
            raise refusal(ex, what, lsn) from ex
        if missing and action.otherwise is None:
            raise ChangeRefused(
                f"{what}: the target lacks a row of which the source sent only the changed"
                f" columns, in the transaction that ends at {format_lsn(lsn)}",
                hint="the target was changed by somebody else: compare the table on both sides",
            )


def _described(table: Table) -> str:
    return f"{table} (key {', '.join(table.key_columns) or 'none'})"


def refusal(error: psycopg.Error, what: str | None, lsn: Lsn) -> ChangeRefused:
    """Return the error of a change that the target refuses, without a value of its row.

    Without `what`, of a commit: a deferred constraint knows the table that it is of.
    """
    what = what or f"{error.diag.schema_name}.{error.diag.table_name}"
    return ChangeRefused(
        f"the target refuses a change of {what} in the transaction that ends at"
        f" {format_lsn(lsn)}: {_reason(error)}",
        hint="make the target's table accept it (`cdc check` shows how the two differ), then start"
        " the daemon again: it goes on from this transaction",
    )


def refused_copy(error: psycopg.Error, table: str) -> ChangeRefused:
    """Return the error of an initial copy that cannot be made, without a value of a row."""
    return ChangeRefused(
        f"{table} cannot be copied: {_reason(error)}",
        hint="make the target's table accept the source's rows (`cdc check` shows how the two"
        " differ), then run `cdc init` again",
    )


def _reason(error: psycopg.Error) -> str:
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

"""Lets a table, or a range of its keys, have the rows of another one, in the open transaction.

Rows that are as they were are not touched. What is extra goes, or is marked, or stays, as the
table's policy says of deleted rows. Columns that the copy has not brought stay as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from cdc.changes.policy import Policy
from cdc.postgres.names import quoted
from cdc.postgres.session import Connection


@dataclass(slots=True, frozen=True)
class Merge:
    """Into which table, and how."""

    own: str
    """The table as a statement on its own rows names it, quoted."""
    into: str
    """The table as an INSERT names it."""
    columns: Sequence[str]
    """Those that are set."""
    same: str
    """Condition that a row `t` of it and a row `s` have the same key; empty: there is no key."""
    policy: Policy
    within: str = "true"
    """Condition on the key: only these rows."""


async def merge(connection: Connection, rows: str, how: Merge) -> None:
    """Let a table have the rows of `rows`, a table's quoted name."""
    listed = ", ".join(map(quoted, how.columns))
    if not how.same:
        if how.policy.retains:
            await _merge_without_key(connection, rows, how)
            return
        await _execute(connection, f"delete from {how.own}")
        await _execute(connection, f"insert into {how.into} ({listed}) select {listed} from {rows}")
        return
    await _let_go(connection, rows, how)
    # Compared as texts: 1.0 is not 1.00, and a json has no equality.
    differs = (
        f"({', '.join(f't.{quoted(c)}::text' for c in how.columns)}) is distinct from"
        f" ({', '.join(f's.{quoted(c)}::text' for c in how.columns)})"
    )
    sets = ", ".join(f"{quoted(c)} = s.{quoted(c)}" for c in how.columns)
    try:
        async with connection.transaction():
            await _execute(
                connection,
                f"update {how.own} t set {sets} from {rows} s where {how.same} and {differs}",
            )
    except psycopg.errors.IntegrityError:
        # Rows that swap a unique value: out with all that differ, then in again.
        await _execute(
            connection, f"delete from {how.own} t using {rows} s where {how.same} and {differs}"
        )
    missing = f"not exists (select from {how.own} t where {how.same})"
    await _execute(
        connection,
        f"insert into {how.into} ({listed}) select {listed} from {rows} s where {missing}",
    )


async def _merge_without_key(connection: Connection, rows: str, how: Merge) -> None:
    """Add what is missing, row by equal row; do with what is extra as the policy says."""
    marker, soft = quoted(how.policy.marker), how.policy.deletes == "soft"
    texts = ", ".join(
        f"{quoted(c)}::text" for c in how.columns if not soft or c != how.policy.marker
    )
    numbered = (
        f'*, row({texts})::text as "cdc row", tableoid as "cdc oid", ctid as "cdc id",'
        f' row_number() over (partition by row({texts})::text) as "cdc n"'
    )
    here = f"(select {numbered} from {how.own}{f' where {marker} is null' if soft else ''}) t"
    there = f"(select {numbered} from {rows}) s"
    same = '(t."cdc row", t."cdc n") = (s."cdc row", s."cdc n")'
    listed = ", ".join(map(quoted, how.columns))
    missing = f"{there} where not exists (select from {here} where {same})"
    insert = f"insert into {how.into} ({listed}) select {listed} from {missing}"
    if soft:
        extra = f"{here} where not exists (select from {there} where {same})"
        await _execute(
            connection,
            f"update {how.own} set {marker} = clock_timestamp()"
            f' where (tableoid, ctid) in (select "cdc oid", "cdc id" from {extra})',
        )
    await _execute(connection, insert)


async def _let_go(connection: Connection, rows: str, how: Merge) -> None:
    """Do with what is extra as the policy says."""
    extra = f"{how.within} and not exists (select from {rows} s where {how.same})"
    marker = quoted(how.policy.marker)
    match how.policy.deletes:
        case "replicate":
            await _execute(connection, f"delete from {how.own} t where {extra}")
        case "soft":
            update = f"update {how.own} t set {marker} = clock_timestamp()"
            await _execute(connection, f"{update} where {marker} is null and {extra}")
        case "ignore":
            pass


async def _execute(connection: Connection, statement: str) -> None:
    await connection.execute(statement.encode())

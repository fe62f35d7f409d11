"""Verifications, in a table of the target: who compares asks there, the daemon answers, both note.

    asked     by whoever compares; it holds an advisory lock on the source meanwhile (`advisory`)
    heard     by the daemon
    offered   the stream stands at an LSN, and this snapshot shows the source there
    joined    both sides are held in view: the stream may go on
    finished  with a result, or with the problem that stood in its way

The lock says that somebody is still there, the row what about. Whether a comparison was exact is
not up to these notes: who joins sees by its own snapshot of the target that this is at the LSN.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg.rows import class_row

from cdc.errors import Unavailable
from cdc.lsn import Lsn, format_lsn, parse_lsn
from cdc.postgres.session import Connection
from cdc.verified import Verified


@dataclass(slots=True, frozen=True)
class Offer:
    """A place of the stream where both sides can be seen."""

    lsn: Lsn
    snapshot: str


@dataclass(slots=True)
class _Row:
    heard: bool
    lsn: str | None
    snapshot: str | None
    problem: str | None


@dataclass(slots=True)
class _Result:
    lsn: str
    at_unix_s: float
    tables: int
    rows: int
    differing: list[str]
    only: list[str] | None


@dataclass(slots=True, frozen=True)
class Answer:
    """What the daemon has said by now."""

    heard: bool
    offer: Offer | None
    problem: str | None


def lock_of(slot: str) -> str:
    """Return the name of the advisory lock on the source that a verification holds."""
    return f"cdc verify {slot}"


async def ask(target: Connection, slot: str, asked_by: int, only: Sequence[str] | None) -> int:
    """Note that somebody wants to compare; return the number of the verification."""
    cursor = await target.execute(
        "insert into cdc.verification (slot, asked_by, only_tables) values (%s, %s, %s)"
        " returning id",
        (slot, asked_by, None if only is None else list(only)),
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(str(row[0]))


@dataclass(slots=True, frozen=True)
class Asked:
    """What the holder of the lock has asked for last."""

    number: int
    joined: bool
    finished: bool


async def hear(target: Connection, slot: str, asked_by: int) -> Asked | None:
    """Take notice of what the holder of the lock asks; None: it has not asked yet."""
    cursor = await target.execute(
        "update cdc.verification set heard_at = coalesce(heard_at, clock_timestamp()) where id ="
        " (select max(id) from cdc.verification where slot = %s and asked_by = %s)"
        " returning id, joined_at is not null, finished_at is not null",
        (slot, asked_by),
    )
    row = await cursor.fetchone()
    if row is None:
        return None
    return Asked(int(str(row[0])), joined=bool(row[1]), finished=bool(row[2]))


async def offer(target: Connection, number: int, view: Offer) -> None:
    """Say where the stream stands, and by which snapshot the source is seen there."""
    await target.execute(
        "update cdc.verification set lsn = %s::pg_lsn, snapshot = %s where id = %s",
        (format_lsn(view.lsn), view.snapshot, number),
    )


async def answer(target: Connection, number: int) -> Answer:
    """Return what the daemon has said."""
    cursor = target.cursor(row_factory=class_row(_Row))
    await cursor.execute(
        "select heard_at is not null as heard, lsn::text as lsn, snapshot, problem"
        " from cdc.verification where id = %s",
        (number,),
    )
    row = await cursor.fetchone()
    if row is None:
        return Answer(heard=False, offer=None, problem="the target was restored meanwhile")
    offered = None
    if row.lsn is not None and row.snapshot is not None:
        offered = Offer(parse_lsn(row.lsn), row.snapshot)
    return Answer(row.heard, offered, row.problem)


async def join(target: Connection, number: int) -> None:
    """Say that both sides are in view."""
    await target.execute(
        "update cdc.verification set joined_at = clock_timestamp() where id = %s", (number,)
    )


async def has_joined(target: Connection, number: int) -> bool:
    """Tell whether both sides are in view, or nobody waits for that any more."""
    cursor = await target.execute(
        "select from cdc.verification where id = %s"
        " and (joined_at is not null or finished_at is not null)",
        (number,),
    )
    return await cursor.fetchone() is not None


async def finish(
    target: Connection, number: int, *, tables: int, rows: int, differing: Sequence[str]
) -> None:
    """Note the result; raises Unavailable where the daemon has noted that there is none."""
    cursor = await target.execute(
        "update cdc.verification set finished_at = clock_timestamp(), equal = %s, tables = %s,"
        " rows = %s, differing = %s where id = %s and finished_at is null",
        (not differing, tables, rows, list(differing), number),
    )
    if cursor.rowcount != 1:
        raise Unavailable(
            "the session that asked for it was cut off, and the daemon takes it for given up",
            hint="run `cdc verify` again",
        )


async def load_result(target: Connection, number: int) -> Verified | None:
    """Return what a verification has found; None where it came to no result."""
    found = await _load(target, "id = %s", number)
    return found[0] if found else None


async def load_results(target: Connection, slot: str) -> list[Verified]:
    """Return what is known of the tables by now: the last result of all, and those after it.

    Before these the last one of all that found none to differ.
    """
    condition: LiteralString = (
        "slot = %s and (id >= coalesce((select max(id) from cdc.verification l"
        " where l.slot = v.slot and l.equal is not null and l.only_tables is null), 0)"
        " or id = (select max(id) from cdc.verification l"
        " where l.slot = v.slot and l.equal and l.only_tables is null))"
    )
    try:
        return await _load(target, condition, slot)
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return []  # bookkeeping of an older version, or none


async def _load(target: Connection, condition: LiteralString, parameter: object) -> list[Verified]:
    cursor = target.cursor(row_factory=class_row(_Result))
    await cursor.execute(
        "select lsn::text as lsn, extract(epoch from finished_at)::float8 as at_unix_s, tables,"
        " rows, differing, only_tables as only from cdc.verification v"
        " where equal is not null and " + condition + " order by id",
        (parameter,),
    )
    return [
        Verified(
            parse_lsn(row.lsn),
            row.at_unix_s,
            row.tables,
            row.rows,
            tuple(row.differing),
            None if row.only is None else tuple(row.only),
        )
        for row in await cursor.fetchall()
    ]


async def give_up(target: Connection, number: int, problem: str) -> None:
    """Note why there is no result, unless there is one, or that is known."""
    await target.execute(
        "update cdc.verification set finished_at = clock_timestamp(), problem = %s"
        " where id = %s and finished_at is null",
        (problem, number),
    )

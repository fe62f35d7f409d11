"""Both sides at one LSN, for as long as it takes to compare them, while the stream goes on.

Two sessions hold a snapshot each, and nothing else: no lock on any table. Whoever compares a table
opens transactions of its own with these snapshots, so that no lock stays longer than its table is
read. That both are of one place of the stream is seen here, whatever anybody has promised: the
target's snapshot has the checkpoint, which has to be the LSN of the source's.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql

from cdc.errors import Unavailable
from cdc.postgres.session import Connection
from cdc.target.checkpoint import load_checkpoint
from cdc.target.verification import Offer

_STAND_STILL = "set transaction isolation level repeatable read, read only"


@dataclass(slots=True, frozen=True)
class View:
    """Two sessions whose transactions see both sides at one LSN, and the names of what they see."""

    source: Connection
    target: Connection
    source_snapshot: str
    target_snapshot: str


@asynccontextmanager
async def open_view(
    source: Connection, target: Connection, slot: str, offered: Offer
) -> AsyncIterator[View]:
    """See both sides at the LSN that the daemon offers; raises Unavailable if that has passed."""
    async with source.transaction(), target.transaction():
        try:
            await import_snapshot(source, offered.snapshot)
        except (psycopg.errors.UndefinedObject, psycopg.errors.InvalidParameterValue) as ex:
            raise _passed() from ex
        await target.execute(_STAND_STILL)
        checkpoint = await load_checkpoint(target, slot)
        if checkpoint is None or checkpoint.lsn != offered.lsn:
            raise _passed()
        yield View(source, target, await _export(source), await _export(target))


async def import_snapshot(connection: Connection, name: str) -> None:
    """Let the transaction that has just begun see what the snapshot shows."""
    await connection.execute(
        sql.SQL("{}; set transaction snapshot {}").format(sql.SQL(_STAND_STILL), sql.Literal(name))
    )


async def _export(connection: Connection) -> str:
    row = await (await connection.execute("select pg_export_snapshot()")).fetchone()
    assert row is not None
    return str(row[0])


def _passed() -> Unavailable:
    return Unavailable(
        "the stream has gone on before both sides were in view", hint="run `cdc verify` again"
    )

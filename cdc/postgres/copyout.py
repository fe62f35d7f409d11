"""COPY … TO STDOUT, read some hundreds of lines at a time.

psycopg reads a line an await, which costs more than the server takes to make it: 1.8 µs a row of
11 columns, and half a microsecond here. So libpq is asked itself, as for the replication stream.
"""

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from psycopg.abc import PQGen
from psycopg.errors import error_from_result
from psycopg.generators import execute, fetch_many
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn
from psycopg.waiting import Wait

from cdc.postgres.drain import drain
from cdc.postgres.session import Connection


@asynccontextmanager
async def copy_out(
    connection: Connection, statement: bytes
) -> AsyncIterator[AsyncIterator[list[bytes]]]:
    """Run a COPY … TO STDOUT; its lines come as they arrive, each with its newline.

    Raises psycopg.Error. Whoever leaves before the end has the statement cancelled.
    """
    async with connection.lock:
        await connection.wait(_begin(connection.pgconn, statement))
        reading = _Reading(connection)
        try:
            yield reading.lines()
        finally:
            if not reading.ended:
                await reading.abandon()


class _Reading:
    """A COPY that has begun."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.ended = False

    async def lines(self) -> AsyncIterator[list[bytes]]:
        """Yield what has arrived, until the end."""
        while not self.ended:
            lines: list[bytes] = []
            try:
                self.ended = await self._connection.wait(_read(self._connection.pgconn, lines))
            except psycopg.Error:
                # Over as well: a cancellation might meet what the session does next.
                self.ended = True
                raise
            if lines:
                yield lines

    async def abandon(self) -> None:
        """Cancel it, and read what is under way; a session that is lost is so for the next one."""
        with contextlib.suppress(psycopg.Error):
            await self._connection.cancel_safe()
            while not await self._connection.wait(_read(self._connection.pgconn, [])):
                pass


def _begin(pgconn: PGconn, statement: bytes) -> PQGen[None]:
    pgconn.send_query(statement)
    (result, *_) = yield from execute(pgconn)
    if result.status != ExecStatus.COPY_OUT:
        raise error_from_result(result)


def _read(pgconn: PGconn, lines: list[bytes]) -> PQGen[bool]:
    """Add lines that arrive, at least one; return True at the end."""
    received = 0
    while True:
        before = received
        size, received = drain(pgconn, lines, received)
        if size > 0:
            return False
        if size < 0:
            break
        # What a look at the socket finds saves a wait for it.
        if lines and received == before:
            return False
        if not lines:
            yield Wait.R
        pgconn.consume_input()
    for result in (yield from fetch_many(pgconn)):
        if result.status == ExecStatus.FATAL_ERROR:
            raise error_from_result(result)
    return True

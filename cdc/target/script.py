"""Statements and COPYs sent as one string: one round trip for each COPY, and one for all the rest.

A server runs the statements of one simple query one after the other, COPYs among them (manual,
"Multiple Statements in a Simple Query"); psycopg has no API for that, so libpq is asked itself. Of
50 ms each, round trips are what a batch costs over a WAN. What fails ends the string: nothing
behind it is run.
"""

from collections.abc import Iterable, Iterator, Sequence

from psycopg import AsyncConnection
from psycopg.abc import PQGen
from psycopg.errors import error_from_result
from psycopg.generators import copy_to, fetch_many
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn
from psycopg.waiting import Wait

from cdc.target.action import Copy, Execute

# COPY data goes to the socket in pieces of this many bytes; larger ones gain nothing.
_COPY_BLOCK = 1 << 18


def fits_script(action: Execute | Copy) -> bool:
    """Tell whether an action can be a part of one string."""
    return isinstance(action, Copy) or (action.before is None and action.text is not None)


async def run_script(
    connection: AsyncConnection[tuple[object, ...]], actions: Sequence[Execute | Copy]
) -> None:
    """Run actions in order; raise the psycopg.Error of the first that fails."""
    script = b";".join(
        action.sql if isinstance(action, Copy) else action.expecting(action.text or b"")
        for action in actions
    )
    copies = [action for action in actions if isinstance(action, Copy)]
    async with connection.lock:
        await connection.wait(_run(connection.pgconn, script, copies))


def _run(pgconn: PGconn, script: bytes, copies: list[Copy]) -> PQGen[None]:
    pgconn.send_query(script)
    yield from flush(pgconn)
    todo = iter(copies)
    while True:
        results = yield from fetch_many(pgconn)
        for result in results:
            if result.status == ExecStatus.FATAL_ERROR:
                raise error_from_result(result)
        if not results or results[-1].status != ExecStatus.COPY_IN:
            return
        yield from _pour(pgconn, next(todo))


def _pour(pgconn: PGconn, copy: Copy) -> PQGen[None]:
    for block in _blocks(copy.lines):
        yield from copy_to(pgconn, block)
    while pgconn.put_copy_end() == 0:
        yield Wait.W
    yield from flush(pgconn)


def flush(pgconn: PGconn) -> PQGen[None]:
    """Send what libpq holds."""
    while pgconn.flush():
        # A server that refuses what it gets says so, and reads on: its words must not fill the way.
        ready = yield Wait.RW
        if ready & Wait.R:
            pgconn.consume_input()


def _blocks(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield lines joined to blocks of about _COPY_BLOCK bytes; a larger line is cut, never joined.

    What is written at once is copied at once, by the driver and by libpq.
    """
    block: list[bytes] = []
    size = 0
    for line in lines:
        if len(line) > _COPY_BLOCK:
            yield b"".join(block)
            block.clear()
            size = 0
            yield from (line[at : at + _COPY_BLOCK] for at in range(0, len(line), _COPY_BLOCK))
            continue
        block.append(line)
        size += len(line)
        if size >= _COPY_BLOCK:
            yield b"".join(block)
            block.clear()
            size = 0
    yield b"".join(block)

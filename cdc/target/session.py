"""The session that writes to the target, and how it runs what a plan says.

Values are the text that the source sent: they go as parameters of unknown type, which the target's
own input functions read, or as lines of a COPY. Statements that stand side by side are sent as one
pipeline: one round trip, however many they are. Nothing is decided here, and nothing is retried.
"""

from collections.abc import Iterator
from itertools import groupby

from psycopg import AsyncRawCursor
from psycopg.adapt import Buffer, Dumper

from cdc.postgres.session import Connection, connect
from cdc.target.plan import Action
from cdc.target.statements import Copy, Execute

# COPY data goes to the socket in pieces of this many bytes; larger ones gain nothing.
_COPY_BLOCK = 1 << 18


class _TextDumper(Dumper):
    """Sends bytes as they are, as a text of unknown type."""

    oid = 0

    def dump(self, obj: Buffer) -> Buffer:
        return obj


async def open_session(dsn: str) -> Connection:
    """Connect. Raises psycopg.OperationalError."""
    connection = await connect(dsn)
    connection.adapters.register_dumper(bytes, _TextDumper)
    return connection


async def run(connection: Connection, actions: list[Action]) -> None:
    """Run actions in order; raise the psycopg.Error of the first that fails."""
    cursor = AsyncRawCursor(connection)
    for is_copy, group in groupby(actions, lambda action: isinstance(action, Copy)):
        if is_copy:
            for action in group:
                await _copy(cursor, action)
        else:
            async with connection.pipeline():
                for action in group:
                    await _execute(cursor, action)


async def _execute(cursor: AsyncRawCursor[tuple[object, ...]], action: Action) -> None:
    assert isinstance(action, Execute)
    if action.before is not None:
        await _execute(cursor, action.before)
    text = action.sql
    if action.rows is not None:
        text = b"with w as (%b returning 1) select cdc.expect(count(*), %d) from w" % (
            text,
            action.rows,
        )
    await cursor.execute(text, action.parameters, prepare=bool(action.parameters))


async def _copy(cursor: AsyncRawCursor[tuple[object, ...]], action: Action) -> None:
    assert isinstance(action, Copy)
    async with cursor.copy(action.sql) as copy:
        for block in _blocks(action.lines):
            await copy.write(block)


def _blocks(lines: list[bytes]) -> Iterator[bytes]:
    """Yield lines joined to blocks of at least _COPY_BLOCK bytes."""
    block: list[bytes] = []
    size = 0
    for line in lines:
        block.append(line)
        size += len(line)
        if size >= _COPY_BLOCK:
            yield b"".join(block)
            block.clear()
            size = 0
    yield b"".join(block)

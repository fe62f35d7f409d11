"""The session that writes to the target: what it knows of the target, how it runs what a plan says.

Values are the text that the source sent: they go as parameters of unknown type, which the target's
own input functions read, or as lines of a COPY. Statements that stand side by side are sent as one
pipeline: one round trip, however many they are. Nothing is decided here, and nothing is retried.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import groupby

import psycopg
from psycopg import AsyncRawCursor
from psycopg.adapt import Buffer, Dumper

from cdc.changes.held import Held
from cdc.changes.relations import QualifiedName
from cdc.errors import Unavailable
from cdc.postgres.catalog import Catalog
from cdc.postgres.catalog_reader import load_catalog
from cdc.postgres.session import Connection
from cdc.target.connection import connect_target
from cdc.target.fingerprint import Fingerprints, load_fingerprints
from cdc.target.plan import Action, Planner
from cdc.target.quarantine import load_held
from cdc.target.statements import Copy, Execute
from cdc.target.tables import prepare_tables

# COPY data goes to the socket in pieces of this many bytes; larger ones gain nothing.
_COPY_BLOCK = 1 << 18


class _TextDumper(Dumper):
    """Sends bytes as they are, as a text of unknown type."""

    oid = 0

    def dump(self, obj: Buffer) -> Buffer:
        return obj


class Session:
    """A connection, the catalog as it found it, and the rows that wait in the quarantine."""

    def __init__(
        self,
        connection: Connection,
        slot: str,
        schemas: Sequence[str],
        fingerprints: Fingerprints,
        catalog: Catalog,
    ) -> None:
        self.connection = connection
        self.slot = slot
        self._schemas = schemas
        self._fingerprints = fingerprints
        self.catalog = catalog
        self.planner = Planner(catalog)
        self.held = Held()

    @classmethod
    async def open(cls, dsn: str, slot: str, schemas: Sequence[str]) -> "Session":
        """Connect, and read the catalog. Raises psycopg.Error."""
        connection = await connect_for_writing(dsn)
        try:
            fingerprints = await load_fingerprints(connection, schemas)
            catalog = await load_catalog(connection, schemas)
            return cls(connection, slot, schemas, fingerprints, catalog)
        except BaseException:
            await connection.close()
            raise

    async def load_held(self) -> None:
        """Read what waits in the quarantine."""
        self.held = await load_held(self.connection, self.slot)

    async def prepare(self, names: Collection[QualifiedName]) -> None:
        """Make the named tables take rows as they are."""
        try:
            prepared = await prepare_tables(self.connection, self.slot, self.catalog, names)
        except psycopg.errors.ObjectInUse as ex:
            raise Unavailable(
                "tables cannot be altered inside a transaction that wrote them"
            ) from ex
        if prepared:
            await self._read(names)

    async def reload(self, names: Collection[QualifiedName]) -> None:
        """Read the catalog again, and make the named tables take rows as they are."""
        await self._read(names)
        await self.prepare(names)

    async def _read(self, fresh: Collection[QualifiedName]) -> None:
        self._fingerprints = await load_fingerprints(self.connection, self._schemas)
        self.catalog = await load_catalog(self.connection, self._schemas)
        self.planner = Planner(self.catalog, fresh)

    def require_unchanged(self, names: Iterable[QualifiedName]) -> list[Action]:
        """Return what fails if tables that were written are not what they were taken for."""
        return [*self._fingerprints.require_unchanged(names)]

    async def run(self, actions: list[Action]) -> None:
        """Run actions in order; raise the psycopg.Error of the first that fails."""
        await run(self.connection, actions)


async def connect_for_writing(dsn: str) -> Connection:
    """Connect. Raises psycopg.OperationalError."""
    connection = await connect_target(dsn)
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
        met = b"greatest(count(*), %d)" % action.rows if action.at_most else b"count(*)"
        text = b"with w as (%b returning 1) select cdc.expect(%b, %d) from w" % (
            text,
            met,
            action.rows,
        )
    await cursor.execute(text, action.parameters, prepare=bool(action.parameters))


async def _copy(cursor: AsyncRawCursor[tuple[object, ...]], action: Action) -> None:
    assert isinstance(action, Copy)
    async with cursor.copy(action.sql) as copy:
        for block in _blocks(action.lines):
            await copy.write(block)


def _blocks(lines: list[bytes]) -> Iterator[bytes]:
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

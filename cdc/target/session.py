"""The session that writes to the target: what it knows of the target, how it runs what a plan says.

Values are the text that the source sent: they go as parameters of unknown type, which the target's
own input functions read, or as lines of a COPY. Statements that stand side by side are sent as one
pipeline, or with COPYs among them as one string (`script`): one round trip, however many they are.
Nothing is decided here, and nothing is retried.
"""

import logging
from collections.abc import Collection, Iterable, Sequence
from itertools import groupby

import psycopg
from psycopg.adapt import Buffer, Dumper

from cdc.changes.held import Held
from cdc.changes.relations import QualifiedName
from cdc.errors import Unavailable
from cdc.postgres.catalog import Catalog
from cdc.postgres.catalog_reader import load_catalog
from cdc.postgres.session import Connection
from cdc.target import fingerprint, quarantine
from cdc.target.action import Action, Copy
from cdc.target.checkpoint import FENCED, fenced
from cdc.target.connection import connect_for_rows
from cdc.target.fingerprint import Fingerprints, load_fingerprints
from cdc.target.pipelined import run_pipeline
from cdc.target.plan import Planner
from cdc.target.quarantine import load_held
from cdc.target.script import fits_script, run_script
from cdc.target.tables import prepare_tables

log = logging.getLogger(__name__)


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

    async def refresh(self, stale: psycopg.Error, names: Collection[QualifiedName]) -> None:
        """Read again what was found to be another by now (`is_stale`)."""
        if stale.sqlstate == quarantine.STALE:
            await self.load_held()
        else:
            log.info("tables of the target were altered: reading their definitions again")
            await self.reload(names)

    async def run(self, actions: list[Action]) -> None:
        """Run actions in order; raise the psycopg.Error of the first that fails.

        Raises Fenced if another daemon has moved the checkpoint.
        """
        try:
            await run(self.connection, actions)
        except psycopg.Error as ex:
            if ex.sqlstate == FENCED:
                raise fenced(self.slot) from ex
            raise


def is_stale(error: psycopg.Error) -> bool:
    """Tell whether what a session believes of the target was found to be another by now."""
    return error.sqlstate in {quarantine.STALE, fingerprint.STALE}


async def connect_for_writing(dsn: str) -> Connection:
    """Connect. Raises psycopg.OperationalError."""
    connection = await connect_for_rows(dsn)
    connection.adapters.register_dumper(bytes, _TextDumper)
    # Who prepares is `pipelined`: psycopg, if it did too, would deallocate all at a ROLLBACK.
    connection.prepare_threshold = None
    return connection


async def run(connection: Connection, actions: list[Action]) -> None:
    """Run actions in order; raise the psycopg.Error of the first that fails."""
    for is_script, together in _parts(actions):
        if is_script:
            await run_script(connection, together)
        else:
            await run_pipeline(connection, together)


def _parts(actions: list[Action]) -> list[tuple[bool, list[Action]]]:
    """Cut actions into scripts, where there are COPYs, and pipelines, where there are values."""
    parts: list[tuple[bool, list[Action]]] = []
    for fits, group in groupby(actions, fits_script):
        together = list(group)
        is_script = fits and any(isinstance(action, Copy) for action in together)
        if parts and not (is_script or parts[-1][0]):
            parts[-1][1].extend(together)
        else:
            parts.append((is_script, together))
    return parts

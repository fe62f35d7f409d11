"""What both databases say of themselves: loaded once (`assure.loading`), then judged by the checks.

Nothing here asks a server, and nothing here is an opinion. What our role may not ask is None.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from cdc.postgres.catalog import Catalog, CatalogTable
from cdc.postgres.ordering import QualifiedName
from cdc.settings import Settings
from cdc.source.publication import Publication
from cdc.source.slot import Slot
from cdc.target.checkpoint import Checkpoint


class Intent(Enum):
    """What the answer is wanted for."""

    ASK = auto()
    """To know: `cdc check`."""
    COPY = auto()
    """To copy everything now: `cdc init`."""
    TAKE_OVER = auto()
    """To stream onto rows that the target already holds: `cdc init --no-snapshot`."""


@dataclass(slots=True, frozen=True)
class Server:
    """A server, and the role that we are there."""

    version: int
    """As server_version_num: 180006."""
    database: str
    role: str
    superuser: bool
    replication: bool
    may_create: bool
    """Schemas and publications, in this database."""
    may_stage: bool
    """Temporary tables, in this database."""
    read_only: bool
    in_recovery: bool


@dataclass(slots=True, frozen=True)
class Link:
    """How a session reached its server, whatever the DSN, libpq's environment or its files said."""

    host: str
    """As it was named."""
    address: str
    """What the name stood for."""
    sslmode: str


@dataclass(slots=True, frozen=True)
class Access:
    """What our role may do with a table, and what kind of table it is."""

    schema: str
    name: str
    row_security: bool
    """Policies limit the rows that our role sees."""
    owned: bool
    usage: bool
    """Of the table's schema."""
    privileges: list[str]

    @property
    def readable(self) -> bool:
        """All rows can be read."""
        return self.usage and "select" in self.privileges and not self.row_security


@dataclass(slots=True, frozen=True)
class Restriction:
    """A constraint or a unique index: what a table refuses."""

    schema: str
    table: str
    name: str
    constraint: bool
    """It is one, and not an index alone."""
    unique: bool
    of_key: bool
    """The primary key, or the replica identity."""
    definition: str
    """As pg_get_constraintdef() writes it; of an index the part behind USING."""
    statement: str
    """Of an index: what creates it."""
    keys: list[str]
    """Of a unique one: columns and expressions."""
    columns: list[str]
    """That it looks at."""
    predicate: str
    """Of a partial index."""
    nulls_equal: bool
    deferrable: bool
    validated: bool


@dataclass(slots=True, frozen=True)
class Capacity:
    """Whether the source can serve one more slot, and for how long it keeps WAL for one."""

    wal_level: str
    max_slots: int
    slots: int
    max_senders: int
    senders: int
    keep_bytes: int | None
    """max_slot_wal_keep_size; None: no limit."""


@dataclass(slots=True, frozen=True)
class SlotKind:
    """What a slot of our name is."""

    physical: bool
    temporary: bool


@dataclass(slots=True, frozen=True)
class PluginTerms:
    """What the source lets an output plugin do, and what it gives it."""

    allowed: str | None
    """output_plugin_libraries; None: the server has no such setting, or we may not know."""
    secret: bool
    """The setting is there, and our role may not read it."""
    encoding: str
    """Of the database."""


@dataclass(slots=True, frozen=True)
class Bookkeeping:
    """What the schema `cdc` on the target says."""

    exists: bool
    missing: tuple[str, ...]
    """Privileges that our role lacks there, as GRANT statements name them."""
    readable: bool
    checkpoint: Checkpoint | None
    chunks: frozenset[str]
    """Tables with rows that an initial copy of ours has written."""
    quarantined: int
    """Changes that could not be applied, and those that wait behind them."""


@dataclass(slots=True, frozen=True)
class SourceFacts:
    """The source."""

    link: Link
    server: Server
    system_identifier: str | None
    """None where our role may not know."""
    capacity: Capacity
    catalog: Catalog
    access: dict[QualifiedName, Access]
    schemas: list[str]
    """Schemas that have tables, all of them."""
    enums: dict[str, list[str]]
    identity_indexes: dict[QualifiedName, str]
    """An index of each table that could be its replica identity."""
    restrictions: dict[QualifiedName, list[Restriction]]
    expressions: dict[tuple[str, str, str], str]
    """Of generated columns."""
    plugin: PluginTerms
    publication: Publication | None
    slot: Slot | None
    """None where there is none, or a physical one."""
    slot_kind: SlotKind | None


@dataclass(slots=True, frozen=True)
class TargetFacts:
    """The target."""

    link: Link
    server: Server
    catalog: Catalog
    restrictions: dict[QualifiedName, list[Restriction]]
    access: dict[QualifiedName, Access]
    enums: dict[str, list[str]]
    bookkeeping: Bookkeeping
    occupied: frozenset[QualifiedName]
    """Tables that have rows, of those that can be read."""


@dataclass(slots=True, frozen=True)
class Facts:
    """Both sides, and what is wanted of them."""

    settings: Settings
    intent: Intent
    source: SourceFacts
    target: TargetFacts

    @property
    def slot(self) -> str:
        """Name of our slot."""
        return self.settings.source.slot

    @property
    def initialized(self) -> bool:
        """The initial copy is complete."""
        checkpoint = self.target.bookkeeping.checkpoint
        return checkpoint is not None and checkpoint.lsn is not None

    @property
    def forgives(self) -> bool:
        """The stream goes on beside a table that does not fit: its changes go into quarantine."""
        return self.initialized and self.settings.apply.on_error == "quarantine"

    @property
    def publication(self) -> Publication | None:
        """The publication that says what is copied; None: it is missing, or nobody asks it."""
        return self.source.publication if self.settings.source.plugin == "pgoutput" else None

    def copied(self) -> Iterator[CatalogTable]:
        """Yield the source's tables whose rows travel under the table's own name."""
        publication = self.publication
        via_root = publication is not None and publication.via_root
        for table in self.source.catalog.tables.values():
            if table.travels(via_root=via_root):
                yield table

    def pairs(self) -> Iterator[tuple[CatalogTable, CatalogTable]]:
        """Yield the copied tables that are on both sides."""
        for table in self.copied():
            other = self.target.catalog.tables.get(table.qualified_name)
            if other is not None:
                yield table, other

    def sent(self, table: CatalogTable) -> set[str]:
        """Return the columns whose values the stream brings."""
        published = self.publication.tables if self.publication else []
        for part in published:
            if part.qualified_name == table.qualified_name:
                return set(part.columns)
        return {column.name for column in table.columns if not column.generated}

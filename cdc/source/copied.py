"""Which tables are copied, and which part of each: the one place that answers for both plugins.

pgoutput copies what the publication says. wal2json knows none: it copies all columns and rows of
each table in the schemas, partitions under their own names, tables to come included.
"""

from dataclasses import dataclass

from cdc.postgres.catalog_reader import load_catalog
from cdc.postgres.session import Connection
from cdc.settings import SourceSettings
from cdc.source.publication import PublishedTable, load_publication


@dataclass(slots=True)
class CopiedTables:
    """The tables as they are now."""

    tables: list[PublishedTable]
    via_root: bool
    """Partitions' rows travel under the name of the partitioned table."""


async def load_copied_tables(connection: Connection, source: SourceSettings) -> CopiedTables | None:
    """Return what is copied, or None where that is for a publication to say which is missing."""
    if source.plugin == "pgoutput":
        publication = await load_publication(connection, source.publication)
        if publication is None:
            return None
        return CopiedTables(publication.tables, publication.via_root)
    catalog = await load_catalog(connection, source.schemas)
    tables = [
        PublishedTable(
            table.schema, table.name, [c.name for c in table.columns if not c.generated], None
        )
        for table in catalog.tables.values()
        if table.travels(via_root=False)
    ]
    return CopiedTables(tables, via_root=False)

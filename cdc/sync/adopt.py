"""Tables that came later, where the publication is a list of tables.

A publication of whole schemas has them from their first row on, and so has wal2json, which knows no
publication. A list does not, so they are added to it here. Rows written before are copied like
those of any table that nobody has heard of (`sync.copier`).
"""

import logging

from psycopg import sql

from cdc.postgres.catalog_reader import load_catalog
from cdc.postgres.ordering import QualifiedName
from cdc.postgres.session import Connection
from cdc.settings import Settings
from cdc.source.publication import add_table, load_publication

log = logging.getLogger(__name__)

_LOCK_TIMEOUT = "3s"


async def missing_tables(source: Connection, settings: Settings) -> list[QualifiedName]:
    """Return the tables that our publication, a list, does not have."""
    if settings.source.plugin != "pgoutput":
        return []
    publication = await load_publication(source, settings.source.publication)
    if publication is None or publication.all_tables or publication.schemas:
        return []
    published = {table.qualified_name for table in publication.tables}
    catalog = await load_catalog(source, settings.source.schemas)
    return [
        name
        for name, table in catalog.tables.items()
        if name not in published and table.travels(via_root=publication.via_root)
    ]


async def adopt_missing_tables(source: Connection, settings: Settings) -> list[QualifiedName]:
    """Add what is missing to the publication; return what was added."""
    tables = await missing_tables(source, settings)
    for schema, name in tables:
        async with source.transaction():
            await source.execute(sql.SQL("set local lock_timeout = {}").format(_LOCK_TIMEOUT))
            await add_table(source, settings.source.publication, (schema, name))
        log.info("added a table to the publication", extra={"relation": f"{schema}.{name}"})
    return tables

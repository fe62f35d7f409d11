"""Tables that came later, where the publication is a list of tables.

A publication of whole schemas has them from their first row on, and so has wal2json, which knows no
publication. A list does not, so they are added to it here. Rows written before are copied like
those of any table that nobody has heard of (`sync.copier`). Of a table that was copied before, but
is not in the list any more, changes are missing: it was taken out, or dropped and created again
under its name. So it is asked for anew, before it is published.
"""

import logging
from collections.abc import Sequence

from psycopg import sql

from cdc.changes.copies import Copies
from cdc.postgres.catalog_reader import load_catalog
from cdc.postgres.ordering import QualifiedName
from cdc.postgres.session import Connection
from cdc.settings import Settings
from cdc.source.publication import add_table, load_publication
from cdc.sync.start import asking_target
from cdc.target.connection import connect_target
from cdc.target.copies import request_anew
from cdc.target.ledger import record

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


async def adopt_missing_tables(
    source: Connection, settings: Settings, copies: Copies
) -> list[QualifiedName]:
    """Add what is missing to the publication; return what was added."""
    tables = await missing_tables(source, settings)
    if known := [name for name in tables if copies.knows(name)]:
        await _copy_anew(settings, known)
        for each in known:
            copies.request(each)
        copies.noticed()
    for schema, name in tables:
        async with source.transaction():
            await source.execute(sql.SQL("set local lock_timeout = {}").format(_LOCK_TIMEOUT))
            await add_table(source, settings.source.publication, (schema, name))
        log.info("added a table to the publication", extra={"relation": f"{schema}.{name}"})
    return tables


async def _copy_anew(settings: Settings, names: Sequence[QualifiedName]) -> None:
    slot, shown = settings.source.slot, ", ".join(f"{schema}.{name}" for schema, name in names)
    with asking_target():
        async with (
            await connect_target(settings.target.require_dsn()) as target,
            target.transaction(),
        ):
            await request_anew(target, slot, names, gap=True)
            detail = f"{shown}: left the publication meanwhile, and is copied anew"
            await record(target, slot, "table published again", detail)
    log.warning("tables had left the publication: they are copied anew", extra={"tables": shown})

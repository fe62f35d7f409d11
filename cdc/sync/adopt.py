"""Tables that came later, where the publication is a list of tables.

A publication of whole schemas has them from their first row on, and so has wal2json, which knows no
publication. A list does not: rows written
before a table is added to it are in no stream. So a table is added in a transaction that keeps
writers out (SHARE lock) while its rows are copied:

    source   lock ── copy out ───────────────── add to publication ── commit
    target           copy in ── note ── commit

The target commits first: cut off in between, the table is not published yet, the note says that the
rows on the target are ours, and the next try begins by removing them. Writers wait for the copy, so
this is for tables that are new, and the lock is given up where it is not had within seconds.
"""

import logging

from psycopg import sql

from cdc.errors import CheckFailed
from cdc.postgres.catalog_reader import load_catalog
from cdc.postgres.ordering import reference_order
from cdc.postgres.session import Connection, connect
from cdc.settings import Settings
from cdc.source.publication import PublishedTable, add_table, load_publication
from cdc.sync.snapshot import copy_table, note_copied
from cdc.target.ledger import record
from cdc.target.tables import prepare_tables

log = logging.getLogger(__name__)

_LOCK_TIMEOUT = "3s"


async def missing_tables(source: Connection, settings: Settings) -> list[PublishedTable]:
    """Return the tables that our publication, a list, does not have; referenced ones first."""
    if settings.source.plugin != "pgoutput":
        return []
    publication = await load_publication(source, settings.source.publication)
    if publication is None or publication.all_tables or publication.schemas:
        return []
    published = {table.qualified_name for table in publication.tables}
    catalog = await load_catalog(source, settings.source.schemas)
    return [
        PublishedTable(
            table.schema, table.name, [c.name for c in table.columns if not c.generated], None
        )
        for table in map(catalog.tables.__getitem__, reference_order(catalog))
        if table.qualified_name not in published and table.travels(via_root=publication.via_root)
    ]


async def adopt_missing_tables(source: Connection, settings: Settings) -> list[str]:
    """Add what is missing to the publication, its rows to the target; return what was added."""
    tables = await missing_tables(source, settings)
    if not tables:
        return []
    dsn = settings.target.require_dsn()
    async with await connect(dsn, application_name="cdc adopt") as target:
        for table in tables:
            await _adopt(source, target, table, settings)
    return [f"{table.schema}.{table.name}" for table in tables]


async def _adopt(
    source: Connection, target: Connection, table: PublishedTable, settings: Settings
) -> None:
    name = sql.Identifier(table.schema, table.name)
    shown = f"{table.schema}.{table.name}"
    async with source.transaction():
        await source.execute(sql.SQL("set local lock_timeout = {}").format(_LOCK_TIMEOUT))
        await source.execute(sql.SQL("lock table {} in share mode").format(name))
        async with target.transaction():
            await _require_place(target, table, settings)
            rows, size = await copy_table(source, target, table)
            await note_copied(target, settings.source.slot, table, rows, size)
            await record(
                target, settings.source.slot, "table adopted", f"{shown}: {rows} rows copied"
            )
        await add_table(source, settings.source.publication, table.qualified_name)
    log.info("adopted a new table", extra={"relation": shown, "rows": rows})


async def _require_place(target: Connection, table: PublishedTable, settings: Settings) -> None:
    """Make sure that the target has the table, and no rows in it but a cut off copy of ours."""
    shown = f"{table.schema}.{table.name}"
    catalog = await load_catalog(target, [table.schema])
    if table.qualified_name not in catalog.tables:
        raise CheckFailed(
            f"the source has a new table {shown}, the target has not",
            hint=f"create {shown} on the target as it is on the source; the daemon then copies it",
        )
    slot = settings.source.slot
    await prepare_tables(target, slot, catalog, [table.qualified_name])
    name = sql.Identifier(table.schema, table.name)
    noted = await target.execute(
        "delete from cdc.snapshot_chunk where slot = %s and relation = %s",
        (slot, shown),
    )
    if noted.rowcount:
        await target.execute(sql.SQL("delete from {}").format(name))
    found = await (await target.execute(sql.SQL("select from {} limit 1").format(name))).fetchone()
    if found is not None:
        raise CheckFailed(
            f"the new table {shown} has rows on the target already",
            hint=f"truncate {shown} on the target; the daemon then copies the source's rows",
        )

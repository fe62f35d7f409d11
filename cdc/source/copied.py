"""Which tables are copied, and which part of each: the one place that answers for both plugins.

pgoutput copies what the publication says. wal2json knows none: it copies all columns and rows of
each table in the schemas, partitions under their own names, tables to come included.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg.rows import class_row

from cdc.postgres.catalog_reader import load_catalog
from cdc.postgres.session import Connection
from cdc.settings import SourceSettings
from cdc.source.publication import PublishedTable, load_publication

# What VACUUM or ANALYZE has found; where neither has looked yet (-1), what was counted as it was
# written; else nothing. A partitioned table has the rows of its partitions.
_ROWS = """
select n.nspname::text as schema, c.relname::text as name,
       case when c.relkind <> 'p' then
         case when c.reltuples >= 0 then c.reltuples
              else nullif(pg_stat_get_live_tuples(c.oid), 0) end
       else
         (select sum(case when p.reltuples >= 0 then p.reltuples
                          else nullif(pg_stat_get_live_tuples(p.oid), 0) end)
            from pg_partition_tree(c.oid) t join pg_class p on p.oid = t.relid
           where p.relkind <> 'p')
       end::int8 as rows
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where (n.nspname, c.relname) in (select * from unnest(%s::text[], %s::text[]))
"""


@dataclass(slots=True)
class _Row:
    schema: str
    name: str
    rows: int | None


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


async def estimate_rows(
    connection: Connection, names: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], int | None]:
    """Return the tables' rows by the server's statistics: no table is read. None: it has none."""
    cursor = connection.cursor(row_factory=class_row(_Row))
    await cursor.execute(_ROWS, ([schema for schema, _ in names], [name for _, name in names]))
    return {(row.schema, row.name): row.rows async for row in cursor}

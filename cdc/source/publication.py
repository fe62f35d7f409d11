"""The publication: which tables' changes are in the stream.

`FOR TABLES IN SCHEMA` where the role may create one (a superuser; on Supabase a helper lets
`postgres`): tables made later are published from their first row on. Else a `FOR TABLE` list, which
`sync.adopt` keeps complete.

A publication must be there before the slot: pgoutput looks it up as of each change, and stops at
the first change that is older than it ("publication … does not exist").
"""

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from cdc.postgres.session import Connection


@dataclass(slots=True)
class PublishedTable:
    """A table in the publication, and which part of it is published."""

    schema: str
    name: str
    columns: list[str]
    row_filter: str | None

    @property
    def qualified_name(self) -> tuple[str, str]:
        """Schema and name."""
        return self.schema, self.name


@dataclass(slots=True)
class Publication:
    """A publication as the catalog has it."""

    name: str
    owner: str
    all_tables: bool
    schemas: list[str]
    """Schemas that are published as a whole, tables to come included."""
    publishes_all: bool
    """Inserts, updates, deletes and truncates."""
    via_root: bool
    tables: list[PublishedTable]


@dataclass(slots=True)
class _Row:
    name: str
    owner: str
    all_tables: bool
    schemas: list[str]
    publishes_all: bool
    via_root: bool


_PUBLICATION = """
select p.pubname::text as name, pg_get_userbyid(p.pubowner)::text as owner,
       p.puballtables as all_tables,
       array(select n.nspname::text from pg_publication_namespace pn
               join pg_namespace n on n.oid = pn.pnnspid where pn.pnpubid = p.oid) as schemas,
       p.pubinsert and p.pubupdate and p.pubdelete and p.pubtruncate as publishes_all,
       p.pubviaroot as via_root
  from pg_publication p where p.pubname = %s
"""

# attnames holds generated columns too before 18, though their values are not sent; from 18 on those
# that are (publish_generated_columns, or a list of columns).
_TABLES = """
select t.schemaname::text as schema, t.tablename::text as name, t.rowfilter as row_filter,
       array(select a.attname::text
               from pg_attribute a join pg_class c on c.oid = a.attrelid
               join pg_namespace n on n.oid = c.relnamespace
              where n.nspname = t.schemaname and c.relname = t.tablename
                and a.attname = any(t.attnames)
                and (a.attgenerated = '' or current_setting('server_version_num')::int >= 180000)
              order by a.attnum) as columns
  from pg_publication_tables t where t.pubname = %s order by 1, 2
"""


async def load_publication(connection: Connection, name: str) -> Publication | None:
    """Return a publication with its tables, or None where there is none of that name."""
    cursor = connection.cursor(row_factory=class_row(_Row))
    row = await (await cursor.execute(_PUBLICATION, (name,))).fetchone()
    if row is None:
        return None
    tables = connection.cursor(row_factory=class_row(PublishedTable))
    return Publication(
        row.name,
        row.owner,
        row.all_tables,
        row.schemas,
        row.publishes_all,
        row.via_root,
        await (await tables.execute(_TABLES, (name,))).fetchall(),
    )


async def create_publication(
    connection: Connection,
    name: str,
    schemas: Sequence[str],
    tables: Sequence[tuple[str, str]],
) -> None:
    """Create the publication of whole schemas, or of their tables where only that is allowed."""
    try:
        await connection.execute(
            sql.SQL("create publication {} for tables in schema {}").format(
                sql.Identifier(name), sql.SQL(", ").join(map(sql.Identifier, schemas))
            )
        )
    except psycopg.errors.InsufficientPrivilege:
        await connection.execute(
            sql.SQL("create publication {} for table {}").format(
                sql.Identifier(name), sql.SQL(", ").join(sql.Identifier(*table) for table in tables)
            )
        )


async def add_table(connection: Connection, name: str, table: tuple[str, str]) -> None:
    """Add a table to the publication's list."""
    await connection.execute(
        sql.SQL("alter publication {} add table {}").format(
            sql.Identifier(name), sql.Identifier(*table)
        )
    )

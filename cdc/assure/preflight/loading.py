"""Loads the facts: a few catalog queries for each side, however many tables there are.

Reads catalogs, the bookkeeping, and whether tables of the target have a row. The sessions it is
given are read-only from the first question on, so that the servers themselves keep the promise that
nothing is changed. What our role may not ask is None in the facts.
"""

from collections.abc import Sequence
from typing import LiteralString, TypeVar

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from cdc.assure.preflight.facts import (
    Access,
    Bookkeeping,
    Capacity,
    Link,
    PluginTerms,
    Server,
    SlotKind,
    SourceFacts,
    TargetFacts,
)
from cdc.assure.preflight.restrictions import load_restrictions
from cdc.postgres.catalog_reader import load_catalog
from cdc.postgres.ordering import QualifiedName
from cdc.postgres.session import Connection
from cdc.settings import Settings
from cdc.source.publication import load_publication
from cdc.source.slot import load_slot
from cdc.target.checkpoint import load_checkpoint
from cdc.target.quarantine import count_open

_SERVER = """
select current_setting('server_version_num')::int as version,
       current_database()::text as database, r.rolname::text as role, r.rolsuper as superuser,
       r.rolreplication or r.rolsuper as replication,
       has_database_privilege(current_database(), 'create') as may_create,
       has_database_privilege(current_database(), 'temporary') as may_stage,
       current_setting('transaction_read_only')::bool as read_only,
       pg_is_in_recovery() as in_recovery
  from pg_roles r where r.rolname = current_user
"""

_CAPACITY = """
select current_setting('wal_level') as wal_level,
       current_setting('max_replication_slots')::int as max_slots,
       (select count(*)::int from pg_replication_slots) as slots,
       current_setting('max_wal_senders')::int as max_senders,
       (select count(*)::int from pg_stat_replication) as senders,
       (select nullif(setting::int8, -1) * 1048576 from pg_settings
         where name = 'max_slot_wal_keep_size') as keep_bytes
"""

# The tables of the schemas, and those that their foreign keys reference elsewhere.
_ACCESS = """
select n.nspname as schema, c.relname as name, row_security_active(c.oid) as row_security,
       pg_has_role(c.relowner, 'usage') as owned,
       has_schema_privilege(n.oid, 'usage') as usage,
       array(select p from unnest(array['select', 'insert', 'update', 'delete', 'truncate']) p
              where has_table_privilege(c.oid, p)) as privileges
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where c.relkind in ('r', 'p') and c.relpersistence = 'p'
   and (n.nspname = any(%(schemas)s) or c.oid in (
         select k.confrelid from pg_constraint k join pg_class r on r.oid = k.conrelid
           join pg_namespace rn on rn.oid = r.relnamespace
          where k.contype = 'f' and rn.nspname = any(%(schemas)s)))
"""

_SCHEMAS = """
select distinct n.nspname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where c.relkind in ('r', 'p') and c.relpersistence = 'p'
   and n.nspname !~ '^pg_' and n.nspname <> 'information_schema' order by 1
"""

_ENUMS = """
select format_type(t.oid, null), array_agg(e.enumlabel::text order by e.enumsortorder)
  from pg_enum e join pg_type t on t.oid = e.enumtypid group by t.oid
"""

# Unique, immediate, whole-table, no expressions, over columns that are never null: the manual's
# conditions for REPLICA IDENTITY USING INDEX. Of several, the one with the fewest columns.
_IDENTITY_INDEXES = """
select distinct on (1, 2) n.nspname::text, c.relname::text, x.relname::text
  from pg_index i join pg_class c on c.oid = i.indrelid join pg_class x on x.oid = i.indexrelid
  join pg_namespace n on n.oid = c.relnamespace
 where n.nspname = any(%(schemas)s) and i.indisunique and i.indimmediate and i.indisvalid
   and not i.indisprimary and i.indpred is null and i.indexprs is null
   and not exists (select from pg_attribute a where a.attrelid = i.indrelid
                      and a.attnum = any((i.indkey::int2[])[0:i.indnkeyatts - 1])
                      and not a.attnotnull)
 order by 1, 2, i.indnkeyatts, x.relname
"""

_EXPRESSIONS = """
select n.nspname::text, c.relname::text, a.attname::text, pg_get_expr(d.adbin, d.adrelid)
  from pg_attribute a join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
  join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
 where a.attgenerated <> '' and n.nspname = any(%(schemas)s)
"""

_BOOKKEEPING_PRIVILEGES = """
select p.grant from pg_namespace n, lateral (
         select 'usage, create on schema cdc' as grant
          where not has_schema_privilege(n.oid, 'usage')
             or not has_schema_privilege(n.oid, 'create')
         union all
         select 'select, insert, update, delete on cdc.' || c.relname from pg_class c
          where c.relnamespace = n.oid and c.relkind = 'r' and exists (
                select from unnest(array['select', 'insert', 'update', 'delete']) q
                 where not has_table_privilege(c.oid, q))) p
 where n.nspname = 'cdc'
"""


async def load_source(connection: Connection, settings: Settings) -> SourceFacts:
    """Read the source; from here on the session is read-only. Needs PostgreSQL 15."""
    given = {"schemas": settings.source.schemas}
    name = settings.source.slot
    server = await _load_server(connection)
    schemas = await (await connection.execute(_SCHEMAS)).fetchall()
    indexes = await (await connection.execute(_IDENTITY_INDEXES, given)).fetchall()
    expressions = await (await connection.execute(_EXPRESSIONS, given)).fetchall()
    return SourceFacts(
        link=_link(connection),
        server=server,
        system_identifier=await _load_system_identifier(connection),
        capacity=await _one(connection, Capacity, _CAPACITY),
        catalog=await load_catalog(connection, settings.source.schemas),
        access=await _load_access(connection, settings),
        schemas=[str(schema) for (schema,) in schemas],
        enums=await _load_enums(connection),
        identity_indexes={
            (str(schema), str(table)): str(index) for schema, table, index in indexes
        },
        restrictions=await load_restrictions(connection, settings.source.schemas),
        expressions={(str(s), str(t), str(c)): str(text) for s, t, c, text in expressions},
        plugin=await _load_plugin_terms(connection),
        publication=await load_publication(connection, settings.source.publication),
        slot=await load_slot(connection, name),
        slot_kind=await _load_slot_kind(connection, name),
    )


async def load_target(connection: Connection, settings: Settings) -> TargetFacts:
    """Read the target; from here on the session is read-only."""
    server = await _load_server(connection)
    access = await _load_access(connection, settings)
    readable = [name for name, table in access.items() if table.readable]
    return TargetFacts(
        link=_link(connection),
        server=server,
        catalog=await load_catalog(connection, settings.source.schemas),
        restrictions=await load_restrictions(connection, settings.source.schemas),
        access=access,
        enums=await _load_enums(connection),
        bookkeeping=await _load_bookkeeping(connection, settings.source.slot),
        occupied=await _load_occupied(connection, readable),
    )


_R = TypeVar("_R")


async def _one(connection: Connection, row_type: type[_R], query: LiteralString) -> _R:
    row = await (await connection.cursor(row_factory=class_row(row_type)).execute(query)).fetchone()
    assert row is not None
    return row


def _link(connection: Connection) -> Link:
    given = {option.keyword: (option.val or b"").decode() for option in connection.pgconn.info}
    return Link(given[b"host"], given[b"hostaddr"], given[b"sslmode"])


async def _load_server(connection: Connection) -> Server:
    server = await _one(connection, Server, _SERVER)
    await connection.execute("set default_transaction_read_only = on")
    return server


async def _load_system_identifier(connection: Connection) -> str | None:
    try:
        cursor = await connection.execute("select system_identifier::text from pg_control_system()")
    except psycopg.errors.InsufficientPrivilege:
        return None
    row = await cursor.fetchone()
    return None if row is None else str(row[0])


async def _load_plugin_terms(connection: Connection) -> PluginTerms:
    encoding = connection.info.parameter_status("server_encoding") or ""
    try:
        cursor = await connection.execute("select current_setting('output_plugin_libraries', true)")
    except psycopg.errors.InsufficientPrivilege:  # takes pg_read_all_settings
        return PluginTerms(None, secret=True, encoding=encoding)
    row = await cursor.fetchone()
    assert row is not None
    return PluginTerms(None if row[0] is None else str(row[0]), secret=False, encoding=encoding)


async def _load_access(connection: Connection, settings: Settings) -> dict[QualifiedName, Access]:
    cursor = connection.cursor(row_factory=class_row(Access))
    await cursor.execute(_ACCESS, {"schemas": settings.source.schemas})
    return {(table.schema, table.name): table for table in await cursor.fetchall()}


async def _load_enums(connection: Connection) -> dict[str, list[str]]:
    cursor = await connection.execute(_ENUMS)
    return {
        str(name): labels for name, labels in await cursor.fetchall() if isinstance(labels, list)
    }


async def _load_slot_kind(connection: Connection, name: str) -> SlotKind | None:
    cursor = connection.cursor(row_factory=class_row(SlotKind))
    await cursor.execute(
        "select slot_type = 'physical' as physical, temporary"
        " from pg_replication_slots where slot_name = %s",
        (name,),
    )
    return await cursor.fetchone()


async def _load_bookkeeping(connection: Connection, slot: str) -> Bookkeeping:
    row = await (await connection.execute("select to_regnamespace('cdc') is not null")).fetchone()
    exists = row is not None and bool(row[0])
    grants = await (await connection.execute(_BOOKKEEPING_PRIVILEGES)).fetchall()
    missing = tuple(str(grant) for (grant,) in grants)
    try:
        checkpoint = await load_checkpoint(connection, slot)
        if checkpoint is None:
            return Bookkeeping(exists, missing, True, None, frozenset(), 0)
        chunks = await connection.execute(
            "select format('%%s.%%s', table_schema, table_name) from cdc.copy where slot = %s",
            (slot,),
        )
        quarantined = await count_open(connection, slot)
    except psycopg.errors.InsufficientPrivilege:
        return Bookkeeping(exists, missing, False, None, frozenset(), 0)
    names = frozenset(str(name) for (name,) in await chunks.fetchall())
    return Bookkeeping(exists, missing, True, checkpoint, names, quarantined)


async def _load_occupied(
    connection: Connection, tables: Sequence[QualifiedName]
) -> frozenset[QualifiedName]:
    """Return which of the tables have a row, in one query."""
    if not tables:
        return frozenset()
    probes = (
        sql.SQL("select {}, {} where exists (select from {})").format(
            sql.Literal(schema), sql.Literal(name), sql.Identifier(schema, name)
        )
        for schema, name in tables
    )
    cursor = await connection.execute(sql.SQL(" union all ").join(probes))
    return frozenset((str(schema), str(name)) for schema, name in await cursor.fetchall())

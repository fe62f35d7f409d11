"""Reads the tables of some schemas from a server's catalog, in a few queries however many they are.

The same queries serve both sides, versions 15 to 18. Nothing is cached here and nothing is judged.
None of them waits for who has a table for himself (ALTER TABLE, VACUUM FULL): so nothing is asked
for that opens a table, like its size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString, TypeVar

from psycopg.rows import class_row

from cdc.postgres.catalog import Catalog, CatalogTable, Column, ForeignKey
from cdc.postgres.session import Connection

_TABLES = """
select n.nspname as schema, c.relname as name, pg_get_userbyid(c.relowner)::text as owner,
       c.relreplident::text as replica_identity,
       greatest(c.reltuples, 0)::int8 as estimated_rows,
       exists (select from pg_constraint k where k.conrelid = c.oid and k.condeferrable)
         as deferrable,
       c.relkind = 'p' as partitioned, c.relispartition as partition,
       array(select unnest(array[rn.nspname, r.relname]::text[])
               from pg_class r join pg_namespace rn on rn.oid = r.relnamespace
              where c.relispartition and r.oid = pg_partition_root(c.oid)) as root
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where n.nspname = any(%s) and c.relkind in ('r', 'p') and c.relpersistence = 'p'
 order by 1, 2
"""

# Types of which equal values have equal texts: booleans, integers, uuid, texts, bytea, dates and
# timestamps (under the pinned settings), enums, and domains over these. Not numeric: 1.0 = 1.00.
_COLUMNS = """
select n.nspname as schema, c.relname as table, a.attname as name,
       format_type(a.atttypid, a.atttypmod) as type, a.atttypid::int8 as type_oid,
       a.atttypmod as type_modifier, a.attnotnull as not_null,
       a.atthasdef as has_default, a.attidentity::text as identity,
       a.attgenerated::text as generated,
       (t.typtype = 'e' or coalesce(nullif(t.typbasetype, 0), t.oid)::regtype::text in
         ('boolean', 'bytea', 'bigint', 'smallint', 'integer', 'text', 'oid', 'character varying',
          'date', 'timestamp without time zone', 'timestamp with time zone', 'uuid'))
       and coalesce(o.collisdeterministic, true) as exact_text,
       case when t.typtype = 'c' or t.oid::regtype::text like 'reg%%' then 'pg_catalog' else
         (select n.nspname::text
            from pg_opclass oc
            join pg_amop ao on ao.amopfamily = oc.opcfamily and ao.amopstrategy = 3
             and ao.amoplefttype = oc.opcintype and ao.amoprighttype = oc.opcintype
            join pg_operator op on op.oid = ao.amopopr
            join pg_namespace n on n.oid = op.oprnamespace
           where oc.opcdefault and oc.opcintype = coalesce(nullif(t.typbasetype, 0), t.oid)
             and oc.opcmethod = (select am.oid from pg_am am where am.amname = 'btree')
             and n.nspname <> 'pg_catalog')
       end as equality_schema
  from pg_attribute a join pg_class c on c.oid = a.attrelid
  join pg_namespace n on n.oid = c.relnamespace
  join pg_type t on t.oid = a.atttypid left join pg_collation o on o.oid = a.attcollation
 where n.nspname = any(%s) and c.relkind in ('r', 'p') and c.relpersistence = 'p'
   and a.attnum > 0 and not a.attisdropped
 order by 1, 2, a.attnum
"""

# Only what ON CONFLICT and a replica identity can use: immediate, whole-table, no expressions.
_KEYS = """
select n.nspname as schema, c.relname as table, i.indisprimary as primary_key,
       i.indisreplident as replica_identity,
       array(select a.attname::text
               from unnest(i.indkey::int2[]) with ordinality k(attnum, ord)
               join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
              where k.ord <= i.indnkeyatts order by k.ord) as columns
  from pg_index i join pg_class c on c.oid = i.indrelid
  join pg_namespace n on n.oid = c.relnamespace
 where n.nspname = any(%s) and c.relpersistence = 'p' and i.indisunique and i.indimmediate
   and i.indisvalid and i.indpred is null and i.indexprs is null
 order by 1, 2, i.indisprimary desc, i.indexrelid
"""

_FOREIGN_KEYS = """
select n.nspname as schema, c.relname as table, k.conname as name,
       fn.nspname as references_schema, fc.relname as references_table,
       k.condeferrable as deferrable, k.confdeltype <> 'a' or k.confupdtype <> 'a' as acts,
       pg_get_constraintdef(k.oid) as definition,
       format('foreign key (%%s) references %%I.%%I (%%s)%%s deferrable initially %%s%%s',
         (select string_agg(quote_ident(a.attname), ', ' order by c.ord)
            from unnest(k.conkey) with ordinality c(attnum, ord)
            join pg_attribute a on a.attrelid = k.conrelid and a.attnum = c.attnum),
         fn.nspname, fc.relname,
         (select string_agg(quote_ident(a.attname), ', ' order by c.ord)
            from unnest(k.confkey) with ordinality c(attnum, ord)
            join pg_attribute a on a.attrelid = k.confrelid and a.attnum = c.attnum),
         case k.confmatchtype when 'f' then ' match full' else '' end,
         case when k.condeferred then 'deferred' else 'immediate' end,
         case when k.convalidated then '' else ' not valid' end) as passive
  from pg_constraint k join pg_class c on c.oid = k.conrelid
  join pg_namespace n on n.oid = c.relnamespace
  join pg_class fc on fc.oid = k.confrelid join pg_namespace fn on fn.oid = fc.relnamespace
 where n.nspname = any(%s) and k.contype = 'f' and k.conparentid = 0
 order by 1, 2, 3
"""

_TRIGGERS = """
select n.nspname as schema, c.relname as table, t.tgname as name, t.tgenabled = 'A' as always
  from pg_trigger t join pg_class c on c.oid = t.tgrelid
  join pg_namespace n on n.oid = c.relnamespace
 where n.nspname = any(%s) and not t.tgisinternal and t.tgenabled in ('O', 'A')
 order by 1, 2, 3
"""

_RULES = """
select n.nspname as schema, c.relname as table, r.rulename as name, r.ev_enabled = 'A' as always
  from pg_rewrite r join pg_class c on c.oid = r.ev_class
  join pg_namespace n on n.oid = c.relnamespace
 where n.nspname = any(%s) and r.ev_enabled in ('O', 'A')
 order by 1, 2, 3
"""


@dataclass(slots=True)
class _TableRow:
    schema: str
    table: str


@dataclass(slots=True)
class _ColumnRow(_TableRow):
    name: str
    type: str
    type_oid: int
    type_modifier: int
    not_null: bool
    has_default: bool
    identity: str
    generated: str
    exact_text: bool
    equality_schema: str | None


@dataclass(slots=True)
class _KeyRow(_TableRow):
    primary_key: bool
    replica_identity: bool
    columns: list[str]


@dataclass(slots=True)
class _ForeignKeyRow(_TableRow):
    name: str
    references_schema: str
    references_table: str
    deferrable: bool
    acts: bool
    definition: str
    passive: str


@dataclass(slots=True)
class _NameRow(_TableRow):
    name: str
    always: bool


_R = TypeVar("_R")
_T = TypeVar("_T", bound=_TableRow)


async def load_catalog(connection: Connection, schemas: Sequence[str]) -> Catalog:
    """Read the tables of `schemas`, in six queries however many tables there are.

    A table that is made between two of them is in the next catalog.
    """

    async def rows(row_type: type[_R], query: LiteralString) -> list[_R]:
        cursor = connection.cursor(row_factory=class_row(row_type))
        return await (await cursor.execute(query, (list(schemas),))).fetchall()

    tables = {(row.schema, row.name): row for row in await rows(CatalogTable, _TABLES)}

    async def details(row_type: type[_T], query: LiteralString) -> list[tuple[CatalogTable, _T]]:
        found = [(tables.get((r.schema, r.table)), r) for r in await rows(row_type, query)]
        return [(table, row) for table, row in found if table is not None]

    for table, column in await details(_ColumnRow, _COLUMNS):
        table.columns += (
            Column(
                name=column.name,
                type=column.type,
                type_oid=column.type_oid,
                type_modifier=column.type_modifier,
                not_null=column.not_null,
                has_default=column.has_default,
                identity=column.identity,
                generated=column.generated,
                exact_text=column.exact_text,
                equality_schema=column.equality_schema,
            ),
        )
    for table, key in await details(_KeyRow, _KEYS):
        columns = tuple(key.columns)
        table.unique_keys += (columns,)
        if key.primary_key:
            table.primary_key = columns
        if key.replica_identity:
            table.identity_index = columns
    for table, foreign in await details(_ForeignKeyRow, _FOREIGN_KEYS):
        table.foreign_keys += (
            ForeignKey(
                foreign.name,
                references=(foreign.references_schema, foreign.references_table),
                deferrable=foreign.deferrable,
                acts=foreign.acts,
                definition=foreign.definition,
                passive=foreign.passive,
            ),
        )
    for table, trigger in await details(_NameRow, _TRIGGERS):
        table.user_triggers += (trigger.name,)
        table.always |= {trigger.name} if trigger.always else set()
    for table, rule in await details(_NameRow, _RULES):
        table.rules += (rule.name,)
        table.always_rules |= {rule.name} if rule.always else set()
    return Catalog(tables)

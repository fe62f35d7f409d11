"""Loads what tables refuse: CHECK and EXCLUDE constraints, unique indexes and their constraints."""

from collections import defaultdict
from collections.abc import Sequence

from psycopg.rows import class_row

from cdc.assure.preflight.facts import Restriction
from cdc.postgres.ordering import QualifiedName
from cdc.postgres.session import Connection

_RESTRICTIONS = """
select n.nspname as schema, c.relname as table, k.conname as name, true as constraint,
       false as unique, false as of_key, pg_get_constraintdef(k.oid) as definition,
       '' as statement, '{}'::text[] as keys,
       array(select a.attname::text from pg_attribute a
              where a.attrelid = k.conrelid and a.attnum = any(k.conkey)) as columns,
       '' as predicate, false as nulls_equal, k.condeferrable as deferrable,
       k.convalidated as validated
  from pg_constraint k join pg_class c on c.oid = k.conrelid
  join pg_namespace n on n.oid = c.relnamespace
 where n.nspname = any(%(schemas)s) and k.contype in ('c', 'x')
   and coalesce((to_jsonb(k) ->> 'conenforced')::bool, true)
union all
select n.nspname, c.relname, x.relname, k.oid is not null, true,
       i.indisprimary or i.indisreplident,
       coalesce(pg_get_constraintdef(k.oid),
                substring(pg_get_indexdef(i.indexrelid) from ' USING (.*)')),
       pg_get_indexdef(i.indexrelid),
       array(select pg_get_indexdef(i.indexrelid, n, true)
               from generate_series(1, i.indnkeyatts) n),
       array(select a.attname::text from pg_attribute a
              where a.attrelid = i.indrelid
                and (a.attnum = any((i.indkey::int2[])[0:i.indnkeyatts - 1])
                  or i.indexprs is not null and exists (select from pg_depend d
                       where d.classid = 'pg_class'::regclass and d.objid = i.indexrelid
                         and d.refobjid = i.indrelid and d.refobjsubid = a.attnum))),
       coalesce(pg_get_expr(i.indpred, i.indrelid), ''),
       coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::bool, false),
       not i.indimmediate, true
  from pg_index i join pg_class c on c.oid = i.indrelid join pg_class x on x.oid = i.indexrelid
  join pg_namespace n on n.oid = c.relnamespace
  left join pg_constraint k on k.conindid = i.indexrelid and k.contype in ('p', 'u')
 where n.nspname = any(%(schemas)s) and i.indisunique and i.indisvalid and c.relpersistence = 'p'
   and c.relkind in ('r', 'p')
 order by 1, 2, 3
"""


async def load_restrictions(
    connection: Connection, schemas: Sequence[str]
) -> dict[QualifiedName, list[Restriction]]:
    """Return what each table of the schemas refuses."""
    cursor = connection.cursor(row_factory=class_row(Restriction))
    await cursor.execute(_RESTRICTIONS, {"schemas": list(schemas)})
    found: dict[QualifiedName, list[Restriction]] = defaultdict(list)
    for restriction in await cursor.fetchall():
        found[restriction.schema, restriction.table].append(restriction)
    return found

"""Reads from the target what `alterations` is about: catalog and ledger, in a few queries."""

from collections.abc import Sequence

from psycopg.rows import class_row

from cdc.assure.failover.alterations import Altered, Key, Noted, Plan, plan, to_validate
from cdc.postgres.ordering import QualifiedName
from cdc.postgres.session import Connection
from cdc.target import tables

RESTORED = "taken back by promotion"

# From here on a foreign key of a partitioned table can be added without a look at all rows.
_NOT_VALID_PARTITIONED_VERSION = 180000

_EVENTS = [
    tables.TRIGGERS_DISABLED,
    tables.ALWAYS_TRIGGERS_DISABLED,
    tables.RULE_DISABLED,
    tables.ALWAYS_RULE_DISABLED,
    tables.IDENTITY_BY_DEFAULT,
    tables.KEY_WITHOUT_ACTIONS,
    tables.KEY_DEFERRABLE,
]

# Of whatever slot: the table is one, however often somebody began anew.
_NOTED = """
select id, event, detail from cdc.ledger
 where event = any(%s) and resolution is not distinct from %s order by id
"""

_TRIGGERS = """
select n.nspname::text, c.relname::text, t.tgname::text
  from pg_trigger t join pg_class c on c.oid = t.tgrelid
  join pg_namespace n on n.oid = c.relnamespace
 where n.nspname = any(%s) and not t.tgisinternal and t.tgenabled = 'D' order by 1, 2, 3
"""

_RULES = """
select n.nspname::text, c.relname::text, r.rulename::text
  from pg_rewrite r join pg_class c on c.oid = r.ev_class
  join pg_namespace n on n.oid = c.relnamespace
 where n.nspname = any(%s) and r.ev_enabled = 'D' order by 1, 2, 3
"""

_IDENTITIES = """
select n.nspname::text, c.relname::text, a.attname::text
  from pg_attribute a join pg_class c on c.oid = a.attrelid
  join pg_namespace n on n.oid = c.relnamespace
 where n.nspname = any(%s) and a.attidentity = 'd' and not a.attisdropped order by 1, 2, 3
"""

_KEYS = """
select n.nspname::text, c.relname::text, k.conname::text, fn.nspname::text, fc.relname::text,
       k.confdeltype <> 'a' or k.confupdtype <> 'a', k.condeferrable, k.convalidated,
       c.relkind = 'p'
  from pg_constraint k join pg_class c on c.oid = k.conrelid
  join pg_namespace n on n.oid = c.relnamespace
  join pg_class fc on fc.oid = k.confrelid join pg_namespace fn on fn.oid = fc.relnamespace
 where n.nspname = any(%s) and k.contype = 'f' and k.conparentid = 0 order by 1, 2, 3
"""

_UNOWNED = """
select distinct n.nspname::text, c.relname::text
  from unnest(%s::text[], %s::text[]) t (schema, name)
  join pg_namespace n on n.nspname = t.schema
  join pg_class c on c.relnamespace = n.oid and c.relname = t.name
 where not pg_has_role(c.relowner, 'usage') order by 1, 2
"""


async def load_plan(connection: Connection, schemas: Sequence[str]) -> Plan:
    """Return what promotion takes back, as things are."""
    return plan(await _load_noted(connection, None), await load_altered(connection, schemas))


async def load_unvalidated(connection: Connection, schemas: Sequence[str]) -> list[Key]:
    """Return the foreign keys that a promotion has put back, and that are not validated yet."""
    noted = await _load_noted(connection, RESTORED)
    return list(to_validate(noted, (await load_altered(connection, schemas)).keys))


async def load_altered(connection: Connection, schemas: Sequence[str]) -> Altered:
    """Read the catalog."""
    given = (list(schemas),)
    parts = []
    for query in (_TRIGGERS, _RULES, _IDENTITIES):
        rows = await (await connection.execute(query, given)).fetchall()
        parts.append(tuple(((str(schema), str(table)), str(name)) for schema, table, name in rows))
    triggers, rules, identities = parts
    keys = await (await connection.execute(_KEYS, given)).fetchall()
    newer = connection.info.server_version >= _NOT_VALID_PARTITIONED_VERSION
    return Altered(triggers, rules, identities, tuple(_key(row, newer=newer) for row in keys))


def _key(row: tuple[object, ...], *, newer: bool) -> Key:
    schema, table, name, of_schema, of_table, acts, deferrable, validated, partitioned = row
    return Key(
        table=(str(schema), str(table)),
        name=str(name),
        references=(str(of_schema), str(of_table)),
        acts=bool(acts),
        deferrable=bool(deferrable),
        validated=bool(validated),
        partitioned=bool(partitioned) and not newer,
    )


async def _load_noted(connection: Connection, resolution: str | None) -> list[Noted]:
    cursor = connection.cursor(row_factory=class_row(Noted))
    return await (await cursor.execute(_NOTED, (_EVENTS, resolution))).fetchall()


async def resolve_noted(connection: Connection, schemas: Sequence[str]) -> None:
    """Note that what was altered in some schemas is taken back; another pipeline has others."""
    await connection.execute(
        "update cdc.ledger set resolved_at = clock_timestamp(), resolution = %s"
        " where event = any(%s) and resolved_at is null"
        "   and exists (select from unnest(%s::text[]) s where starts_with(detail, s || '.'))",
        (RESTORED, _EVENTS, list(schemas)),
    )


async def load_unowned(
    connection: Connection, names: Sequence[QualifiedName]
) -> list[QualifiedName]:
    """Return those of some tables that our role may not alter."""
    schemas, tables_ = [schema for schema, _ in names], [name for _, name in names]
    cursor = await connection.execute(_UNOWNED, (schemas, tables_))
    return [(str(schema), str(name)) for schema, name in await cursor.fetchall()]

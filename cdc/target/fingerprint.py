"""What tells that a table of the target was altered while the session is open.

A trigger, a rule, a foreign key with an action, a column of another type: whoever makes one changes
rows that the daemon writes from then on, and no statement fails. So each transaction asks, after
its last write, whether the tables it wrote are defined as they were when the session read them. It
holds locks on them by then that no such alteration passes: what is found cannot change any more
before the commit (manual, "Table-Level Locks"). Measured: 16 µs a table (PostgreSQL 18).
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from psycopg.rows import class_row

from cdc.postgres.ordering import QualifiedName
from cdc.postgres.session import Connection
from cdc.target.action import Execute

STALE = "CD004"
"""SQLSTATE of cdc.require_unchanged: a table is not what it was."""

_FINGERPRINTS = """
select n.nspname::text as schema, c.relname::text as name, c.oid::int8 as oid,
       cdc.fingerprint(c.oid) as text,
       array(select array[tn.nspname, t.relname]::text[]
               from pg_class t join pg_namespace tn on tn.oid = t.relnamespace
              where c.relispartition and t.oid in (select pg_partition_ancestors(c.oid))) as above
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where n.nspname = any(%s) and c.relkind in ('r', 'p') and c.relpersistence = 'p'
"""


@dataclass(slots=True)
class _Fingerprint:
    schema: str
    name: str
    oid: int
    text: str
    above: list[list[str]]
    """The partitioned tables that it is a part of, and itself."""


class Fingerprints:
    """Of the tables of some schemas, as they were when they were read."""

    def __init__(self, found: Iterable[_Fingerprint]) -> None:
        self._written: defaultdict[QualifiedName, list[_Fingerprint]] = defaultdict(list)
        """By the table that is named in a statement: it, and its partitions."""
        for each in found:
            for schema, name in each.above or [[each.schema, each.name]]:
                self._written[schema, name].append(each)

    def require_unchanged(self, names: Iterable[QualifiedName]) -> list[Execute]:
        """Return the statement that fails (STALE) if one of these tables was altered."""
        each = [known for name in names for known in self._written.get(name, ())]
        if not each:
            return []
        oids = b",".join(b"%d" % known.oid for known in each)
        texts = b",".join(known.text.encode() for known in each)
        parameters = (b"{%b}" % oids, b"{%b}" % texts)
        call = b"select cdc.require_unchanged(%b::oid[], %b::text[])"
        # Numbers, and hexadecimal digits: nothing to quote.
        inlined = call % tuple(b"'%b'" % value for value in parameters)
        return [Execute(call % (b"$1", b"$2"), parameters, inlined=inlined)]


async def load_fingerprints(connection: Connection, schemas: Sequence[str]) -> Fingerprints:
    """Read them: before the definitions themselves, so that a change in between is found."""
    cursor = connection.cursor(row_factory=class_row(_Fingerprint))
    await cursor.execute(_FINGERPRINTS, (list(schemas),))
    return Fingerprints(await cursor.fetchall())

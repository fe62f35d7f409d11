"""Who but us may write to the target: the application has to, from the promotion on.

Neither grants nor settings of roles are copied from the source, and a role that only read the copy
may have been given read-only sessions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg.rows import class_row

from cdc.postgres.names import quoted
from cdc.postgres.session import Connection


@dataclass(slots=True, frozen=True)
class ReadOnlySetting:
    """A setting that makes sessions read-only."""

    role: str | None
    """None: of all roles."""
    database: str | None
    """None: in all databases."""

    @property
    def mend(self) -> str:
        """The statement that takes it back."""
        what = "reset default_transaction_read_only;"
        within = "" if self.database is None else f"in database {quoted(self.database)} "
        if self.role is not None:
            return f"alter role {quoted(self.role)} {within}{what}"
        return f"alter database {quoted(self.database or '')} {what}"


@dataclass(slots=True, frozen=True)
class Access:
    """What was found."""

    read_only: tuple[ReadOnlySetting, ...] = ()
    ungranted: tuple[str, ...] = ()
    """Tables into which nobody may insert but their owner."""


_READ_ONLY = """
select r.rolname::text as role, d.datname::text as database
  from pg_db_role_setting s left join pg_roles r on r.oid = s.setrole
  left join pg_database d on d.oid = s.setdatabase
 where (s.setdatabase = 0 or d.datname = current_database())
   and (s.setrole = 0 or r.rolname <> current_user)
   and exists (select from unnest(s.setconfig) c
                where c ~ '^default_transaction_read_only=(on|true|yes|1)$')
 order by 1, 2
"""

_UNGRANTED = """
select format('%%s.%%s', n.nspname, c.relname) from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
 where n.nspname = any(%s) and c.relkind in ('r', 'p') and not c.relispartition
   and c.relpersistence = 'p'
   and not exists (select from aclexplode(c.relacl) a
                    where a.privilege_type = 'INSERT' and a.grantee <> c.relowner)
 order by 1
"""


async def load_access(connection: Connection, schemas: Sequence[str]) -> Access:
    """Read who may write."""
    cursor = connection.cursor(row_factory=class_row(ReadOnlySetting))
    read_only = await (await cursor.execute(_READ_ONLY)).fetchall()
    ungranted = await (await connection.execute(_UNGRANTED, (list(schemas),))).fetchall()
    return Access(tuple(read_only), tuple(str(name) for (name,) in ungranted))

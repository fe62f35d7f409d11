"""The statement that empties tables.

PostgreSQL truncates no table with checks pending, and on the target more of them wait than on the
source: there each foreign key is deferred until the commit. So those of the truncated tables are
made first, which holds: on the source none was pending either. Others may have to wait, since the
source may not meet them yet.
"""

from cdc.postgres.catalog import CatalogTable
from cdc.postgres.names import quoted
from cdc.target.statements import Execute

# A block, since it has to be one statement.
_SETTLED = """\
declare
  waiting text;
begin
  select string_agg(format('%I.%I', connamespace::regnamespace, conname), ', ') into waiting
    from pg_constraint
   where condeferrable and (conrelid = any (array[{tables}]) or confrelid = any (array[{tables}]));
  if waiting is not null then
    execute 'set constraints ' || waiting || ' immediate';
    execute 'set constraints ' || waiting || ' deferred';
  end if;
  {truncate};
end"""


def truncate(
    tables: tuple[CatalogTable, ...], *, restart_identity: bool, deferrable: bool = False
) -> Execute:
    """Empty tables. Without CASCADE: the message lists what the source emptied, nothing more is.

    So does the server's own apply worker (`apply_handle_truncate`). `deferrable`: some constraint
    of the target can be pending.
    """
    names = [quoted(table.schema, table.name) for table in tables]
    text = f"truncate {', '.join(names)}{' restart identity' if restart_identity else ''}"
    if deferrable:
        oids = ", ".join(f"{_literal(name)}::regclass" for name in names)
        text = f"do {_literal(_SETTLED.format(tables=oids, truncate=text))}"
    return Execute(text.encode())


def _literal(text: str) -> str:
    """Quote a text; standard_conforming_strings is on."""
    return "'" + text.replace("'", "''") + "'"

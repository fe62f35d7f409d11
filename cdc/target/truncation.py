"""The statement that empties tables.

PostgreSQL truncates no table with checks pending, and on the target more of them wait than on the
source: there each foreign key is deferred until the commit. So those of the truncated tables are
made first. No others: the source may not meet them yet. And where even these fail, what waits is
of a referenced table that stays, which may wait on the source too: then the rows are deleted, which
PostgreSQL allows at any time.
"""

from cdc.postgres.catalog import CatalogTable
from cdc.postgres.names import literal, quoted
from cdc.target.action import Execute

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
exception when foreign_key_violation then
  {otherwise};
end"""


def truncate(
    tables: tuple[CatalogTable, ...], *, restart_identity: bool, deferrable: bool = False
) -> Execute:
    """Empty tables. Without CASCADE: the message lists what the source emptied, nothing more is.

    So does the server's own apply worker (`apply_handle_truncate`). `deferrable`: some constraint
    of the target can be pending.
    """
    names = [quoted(table.schema, table.name) for table in tables]
    # What inherits from them is in the message too, if it was emptied.
    own = [name if t.partitioned else f"only {name}" for name, t in zip(names, tables, strict=True)]
    text = f"truncate {', '.join(own)}{' restart identity' if restart_identity else ''}"
    if deferrable:
        oids = ", ".join(f"{literal(name)}::regclass" for name in names)
        # A delete cannot restart sequences: then the change is refused.
        deletes = "; ".join(f"delete from {name}" for name in own)
        otherwise = "raise" if restart_identity else deletes
        block = _SETTLED.format(tables=oids, truncate=text, otherwise=otherwise)
        text = f"do {literal(block)}"
    return Execute(text.encode())

"""The place that a table's rows need on the target: its columns, its key, its types.

Asked once for each shape of a table, before anything of it is written. What the target would refuse
by itself is left to it: this is for what it would take, and change.
"""

from cdc.changes.relations import Table
from cdc.errors import ChangeRefused
from cdc.postgres.catalog import CatalogTable
from cdc.postgres.types import holds


def require_place(table: Table, target: CatalogTable) -> None:
    """Raise ChangeRefused where rows of a table cannot be written as they are."""
    columns = {column.name: column for column in target.columns}
    if len(set(table.columns)) < len(table.columns):
        raise ChangeRefused(
            f"{table}: the source has a column {table.policy.marker} of its own, and soft"
            " deletes cannot set it",
            hint=f"""name another in section tables."{table}" of cdc.toml: deleted_at = "…\"""",
        )
    missing = [name for name in table.columns if name not in columns]
    if missing:
        raise ChangeRefused(
            f"{table}: the target lacks column {', '.join(missing)}",
            hint=f"alter table {table} add column {missing[0]} … on the target,"
            " then start again (`cdc check` lists all differences)",
        )
    if table.key and set(table.key_columns) not in map(set, target.unique_keys):
        raise ChangeRefused(
            f"{table}: the target has no unique index on ({', '.join(table.key_columns)})",
            hint=f"alter table {table} add primary key ({', '.join(table.key_columns)})"
            " on the target, then start again",
        )
    for column in table.described:
        other = columns[column.name]
        held = holds(
            other.type_oid,
            other.type_modifier,
            source_type_oid=column.type_oid,
            source_modifier=column.type_modifier,
        )
        if held is False:
            raise ChangeRefused(
                f"{table} (key {', '.join(table.key_columns) or 'none'}): the target's column"
                f" {column.name} is {other.type}, which may not hold what the source's holds",
                hint="alter it to the source's type (`cdc check` shows it), then start again",
            )

"""Which tables a verification compares, and what is read of each on either side.

The source's published rows and columns, with generated columns, which the target computes by
itself; of the target what its policies leave beyond these is not looked at: rows that are marked as
deleted. A table whose copy is not complete cannot be compared.
"""

from collections.abc import Collection

from cdc.assure.verify.comparison import ComparedTable, shown
from cdc.assure.verify.quiet import key_of, require_columns
from cdc.assure.verify.selection import Selection
from cdc.assure.verify.view import View
from cdc.changes.policy import REPLICATE, Policy
from cdc.errors import Unavailable
from cdc.postgres.catalog import Catalog, CatalogTable
from cdc.postgres.catalog_reader import load_catalog
from cdc.postgres.names import quoted
from cdc.postgres.ordering import QualifiedName
from cdc.settings import Settings
from cdc.source.chunks import own
from cdc.source.copied import load_copied_tables
from cdc.source.publication import PublishedTable
from cdc.target.copies import load_copies
from cdc.target.policies import policies


async def load_compared(
    view: View, settings: Settings, names: Collection[QualifiedName]
) -> list[ComparedTable]:
    """Return the tables, all if no names are given; the largest first."""
    copied = await load_copied_tables(view.source, settings.source)
    published = [] if copied is None else copied.tables
    chosen = [table for table in published if not names or table.qualified_name in names]
    await _require_copied(view, settings, [table.qualified_name for table in chosen])
    schemas = sorted({table.schema for table in chosen})
    ours = await load_catalog(view.source, schemas)
    theirs = await load_catalog(view.target, schemas)
    found = policies(settings)
    compared = [
        _compared(table, ours, theirs, found.get(table.qualified_name, REPLICATE))
        for table in chosen
        if table.qualified_name in ours.tables
    ]
    gone = set(names) - {table.qualified_name for table in compared}
    if gone:
        raise Unavailable(f"{shown(min(gone))} is gone since", hint="run `cdc verify` again")
    return sorted(compared, key=lambda table: -table.estimated_rows)


async def _require_copied(view: View, settings: Settings, names: Collection[QualifiedName]) -> None:
    """Raise Unavailable if the copy of a table is under way: its rows are not to be seen yet."""
    rows = await load_copies(view.target, settings.source.slot)
    there = {row.name for row in rows if row.completed or row.live}
    lacking = [f"{schema}.{name}" for schema, name in names if (schema, name) not in there]
    if lacking:
        others = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise Unavailable(
            f"the copy of {lacking[0]}{others} is under way",
            hint="`cdc status` shows how far it is; try again then, or name other tables",
        )


def _compared(
    published: PublishedTable, ours: Catalog, theirs: Catalog, policy: Policy
) -> ComparedTable:
    table = ours.tables[published.qualified_name]
    columns = _columns(table, published)
    marker = [column.name for column in policy.added]
    counterpart = require_columns(table, [*columns, *marker], theirs)
    key = key_of(table)
    if not set(key) <= set(columns):
        key = ()
    unmarked = " and ".join(f"{quoted(name)} is null" for name in marker)
    filtered = f"({published.row_filter})" if published.row_filter else "true"
    return ComparedTable(
        table.qualified_name,
        Selection(own(table), columns, key, filtered),
        Selection(own(counterpart), columns, key, unmarked or "true"),
        table.estimated_rows,
        keeps="ignore" in {policy.deletes, policy.truncate},
    )


def _columns(table: CatalogTable, published: PublishedTable) -> tuple[str, ...]:
    """Return the published columns, in the table's order, and those computed from all of them."""
    sent = set(published.columns)
    if sent >= {column.name for column in table.columns if not column.generated}:
        sent |= {column.name for column in table.columns}
    return tuple(column.name for column in table.columns if column.name in sent)

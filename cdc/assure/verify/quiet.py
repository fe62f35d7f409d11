"""Whether two databases hold the same rows where nobody writes, and everything is applied.

Compared are the source's tables and columns; what the target has beyond these is its own affair.
"""

from collections.abc import Sequence

from cdc.assure.verify.comparison import (
    ComparedTable,
    Report,
    TableComparison,
    compare_table,
)
from cdc.assure.verify.selection import Selection
from cdc.errors import CheckFailed
from cdc.postgres.catalog import Catalog, CatalogTable
from cdc.postgres.catalog_reader import load_catalog
from cdc.postgres.names import quoted
from cdc.postgres.session import Connection


async def compare(
    source: Connection, target: Connection, schemas: Sequence[str], report: Report
) -> dict[str, TableComparison]:
    """Compare the tables of `schemas`, by name; raises CheckFailed where a table is not on both."""
    catalog = await load_catalog(source, schemas)
    if not catalog.tables:
        raise CheckFailed(
            f"the source has no table in {', '.join(schemas)}",
            hint="CDC_SOURCE_SCHEMAS names the schemas to copy",
        )
    there = await load_catalog(target, schemas)
    tables = [_compared(table, there) for table in catalog.tables.values()]
    return {table.name: await compare_table(source, target, table, report) for table in tables}


def _compared(table: CatalogTable, there: Catalog) -> ComparedTable:
    columns = tuple(column.name for column in table.columns)
    require_columns(table, columns, there)
    selection = Selection(quoted(*table.qualified_name), columns, key_of(table))
    return ComparedTable(table.qualified_name, selection, selection, table.estimated_rows)


def key_of(table: CatalogTable) -> tuple[str, ...]:
    """Return the columns that a row is known by; none: by all that it holds."""
    return table.primary_key or table.identity_index


def require_columns(table: CatalogTable, columns: Sequence[str], there: Catalog) -> CatalogTable:
    """Return the target's table of the same name; raise CheckFailed if it lacks a column."""
    counterpart = there.tables.get(table.qualified_name)
    if counterpart is None:
        raise CheckFailed(
            f"{table} is missing on the target", hint="`cdc check` names all that is missing"
        )
    lacking = set(columns) - {column.name for column in counterpart.columns}
    if lacking:
        raise CheckFailed(
            f"{table} has no column {', '.join(sorted(lacking))} on the target",
            hint="`cdc check` names all that is missing",
        )
    return counterpart

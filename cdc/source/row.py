"""One row of the source, read by its key: for a row that the target lacks.

An Update leaves a TOAST value out that it did not change. If the target has no such row, although
it should (somebody deleted it there), the whole of it is read here. It comes as it is by now, and
may be newer than the stream, which then brings the changes up to there once more. A row that is
gone is None: its Delete is on the way.
"""

from collections.abc import Awaitable, Callable

from cdc.changes.relations import Table
from cdc.errors import ChangeRefused
from cdc.postgres.catalog import CatalogTable
from cdc.postgres.catalog_reader import load_catalog
from cdc.postgres.equality import cast, equality
from cdc.postgres.names import literal, quoted
from cdc.postgres.session import connect
from cdc.wire.copytext import decode_line
from cdc.wire.messages import Row


def row_reader(dsn: str) -> Callable[[Table, Row], Awaitable[Row | None]]:
    """Return what reads a row by its key, in a session of its own: values as COPY writes them."""

    async def read_row(table: Table, key: Row) -> Row | None:
        async with await connect(dsn, application_name="cdc repair") as source:
            catalog = await load_catalog(source, [table.relation.schema])
            found = catalog.tables.get(table.name)
            if found is None:
                return None
            async with source.cursor().copy(_statement(table, found, key).encode()) as copy:
                lines = [bytes(line) async for line in copy]
        return decode_line(lines[0]) if lines else None

    return read_row


def _statement(table: Table, found: CatalogTable, key: Row) -> str:
    columns = {column.name: column for column in found.columns}
    if not columns.keys() >= set(table.key_columns):
        raise ChangeRefused(
            f"{table}: the source has another key by now, so that a row that the target lacks"
            " cannot be read from it",
            hint=f"compare {table} on both sides, and copy the row by hand",
        )
    conditions = [
        f"{quoted(name)} {equality(columns[name])} {literal((value or b'').decode())}"
        f"{cast(columns[name])}"
        for name, value in zip(table.key_columns, key, strict=True)
    ]
    # A table that inherits from it may have a row of the same key; partitions have its own.
    return (
        f"copy (select {', '.join(quoted(column.name) for column in table.relation.columns)}"
        f" from {'' if found.partitioned else 'only '}{quoted(*table.name)}"
        f" where {' and '.join(conditions)}) to stdout"
    )

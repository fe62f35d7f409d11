"""One row of the source, read by its key: for a row that the target lacks.

An Update leaves a TOAST value out that it did not change. If the target has no such row, although
it should (somebody deleted it there), the whole of it is read here. It comes as it is by now, and
may be newer than the stream, which then brings the changes up to there once more. A row that is
gone is None: its Delete is on the way.
"""

from collections.abc import Awaitable, Callable

from psycopg import sql

from cdc.changes.relations import Table
from cdc.postgres.names import quoted
from cdc.postgres.session import connect
from cdc.wire.copytext import decode_line
from cdc.wire.messages import Row


def row_reader(dsn: str) -> Callable[[Table, Row], Awaitable[Row | None]]:
    """Return what reads a row by its key, in a session of its own: values as COPY writes them."""

    async def read_row(table: Table, key: Row) -> Row | None:
        columns = [sql.Identifier(column.name) for column in table.relation.columns]
        conditions = [
            sql.SQL("{} = {}").format(sql.Identifier(name), sql.Literal((value or b"").decode()))
            for name, value in zip(table.key_columns, key, strict=True)
        ]
        name = sql.Literal(quoted(*table.name))
        # A table that inherits from it may have a row of the same key; partitions have its own.
        statement = sql.SQL(
            "copy (select {} from {} where {} and (tableoid = {}::regclass"
            " or (select relkind = 'p' from pg_class where oid = {}::regclass))) to stdout"
        ).format(
            sql.SQL(", ").join(columns),
            sql.Identifier(*table.name),
            sql.SQL(" and ").join(conditions),
            name,
            name,
        )
        async with (
            await connect(dsn, application_name="cdc repair") as source,
            source.cursor().copy(statement) as copy,
        ):
            lines = [bytes(line) async for line in copy]
        return decode_line(lines[0]) if lines else None

    return read_row

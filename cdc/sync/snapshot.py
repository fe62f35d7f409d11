"""The initial copy: every row to copy as the exported snapshot shows it, bytes untouched.

The slot was created with the snapshot, so what the copy does not hold, the stream will. Tables are
copied by several connections at once, each group of tables after those that it references, since
foreign keys on the target stay enforced. A group's rows and the note that they were copied are one
transaction on the target.

COPY to COPY: what the source sends is what the target reads, nothing is decoded on the way. A copy
that is cut off is begun anew by `sync.initialize`, under a new slot.
"""

import asyncio
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Self

import psycopg
from psycopg import sql

from cdc.backoff import Verdict, judge
from cdc.postgres.catalog import Catalog
from cdc.postgres.ordering import Group, QualifiedName, reference_graph
from cdc.postgres.session import Connection, connect
from cdc.source.copied import CopiedTables
from cdc.source.publication import PublishedTable
from cdc.sync.tasks import first_error
from cdc.target.refusal import refused_copy

# Rows go on in blocks of about this many bytes: a write per row would cost more than the row.
_BLOCK = 1 << 18


@dataclass(slots=True)
class SnapshotProgress:
    """How far the copy has come."""

    tables: int
    tables_done: int = 0
    rows: int = 0
    bytes: int = 0
    estimated_rows: int = 0
    """By the source's statistics; a table never analysed counts as empty."""
    copying: set[str] = field(default_factory=set)


Report = Callable[[SnapshotProgress], None]


@dataclass(slots=True, frozen=True)
class Endpoints:
    """Where from, where to, and under which snapshot."""

    source_dsn: str
    target_dsn: str
    snapshot: str
    slot: str


async def copy_snapshot(
    endpoints: Endpoints,
    copied: CopiedTables,
    source: Catalog,
    target: Catalog,
    *,
    workers: int,
    report: Report,
) -> None:
    """Copy all tables; raises psycopg.Error of the first table that fails."""
    published = {table.qualified_name: table for table in copied.tables}
    graph = {
        group: references
        for group, references in reference_graph(target).items()
        if any(name in published for name in group)
    }
    order = TopologicalSorter({g: [r for r in rs if r in graph] for g, rs in graph.items()})
    order.prepare()
    partitioned = {name for name, table in source.tables.items() if table.partitioned}
    progress = SnapshotProgress(
        len(published),
        estimated_rows=sum(source.tables[name].estimated_rows for name in published),
    )
    ready: asyncio.Queue[Group | None] = asyncio.Queue()
    remaining = len(graph)

    def release() -> None:
        for group in order.get_ready():
            ready.put_nowait(group)
        if remaining == 0:
            for _ in range(workers):
                ready.put_nowait(None)

    async def work() -> None:
        nonlocal remaining
        async with _Copier(endpoints, partitioned, progress, report) as copier:
            while (group := await ready.get()) is not None:
                await copier.copy([published[name] for name in group if name in published])
                order.done(group)
                remaining -= 1
                release()

    release()
    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(workers):
                tasks.create_task(work())
    except BaseExceptionGroup as error_group:
        raise first_error(error_group) from None


class _Copier:
    """One pair of sessions that copies group after group."""

    def __init__(
        self,
        endpoints: Endpoints,
        partitioned: Container[QualifiedName],
        progress: SnapshotProgress,
        report: Report,
    ) -> None:
        self._endpoints = endpoints
        self._partitioned = partitioned
        self._progress = progress
        self._report = report
        self._sessions: list[Connection] = []

    async def __aenter__(self) -> Self:
        for dsn in (self._endpoints.source_dsn, self._endpoints.target_dsn):
            self._sessions.append(await connect(dsn, application_name="cdc snapshot"))
        source = self._sessions[0]
        await source.execute("begin isolation level repeatable read, read only")
        await source.execute(
            sql.SQL("set transaction snapshot {}").format(sql.Literal(self._endpoints.snapshot))
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        for session in self._sessions:
            await session.close()

    async def copy(self, group: list[PublishedTable]) -> None:
        """Copy tables in one transaction of the target."""
        source, target = self._sessions
        async with target.transaction():
            await target.execute("set constraints all deferred")
            for table in group:
                name = f"{table.schema}.{table.name}"
                self._progress.copying.add(name)
                try:
                    rows, size = await copy_table(
                        source,
                        target,
                        table,
                        partitioned=table.qualified_name in self._partitioned,
                        count=self._count,
                    )
                except psycopg.Error as ex:
                    if judge(ex) is not Verdict.REPLAY:
                        raise
                    raise refused_copy(ex, name) from None
                await note_copied(target, self._endpoints.slot, table, rows, size)
                self._progress.copying.discard(name)
        self._progress.tables_done += len(group)
        self._report(self._progress)

    def _count(self, rows: int, size: int) -> None:
        self._progress.rows += rows
        self._progress.bytes += size
        self._report(self._progress)


async def copy_table(
    source: Connection,
    target: Connection,
    table: PublishedTable,
    *,
    partitioned: bool = False,
    count: Callable[[int, int], None] | None = None,
) -> tuple[int, int]:
    """Copy a table's published part inside the transactions that are open; return rows and bytes.

    `count` hears of rows and bytes as they go.
    """
    if not table.columns:
        return await _copy_rows_of_nothing(source, target, table), 0
    statement_out, statement_in = copy_statements(table, partitioned=partitioned)
    rows = size = 0
    block: list[bytes] = []
    block_size = 0
    async with (
        source.cursor().copy(statement_out) as copy_out,
        target.cursor().copy(statement_in) as copy_in,
    ):
        async for row in copy_out:  # the server sends a message a row
            block.append(bytes(row))
            block_size += len(row)
            if block_size >= _BLOCK:
                await copy_in.write(b"".join(block))
                if count is not None:
                    count(len(block), block_size)
                rows += len(block)
                size += block_size
                block.clear()
                block_size = 0
        await copy_in.write(b"".join(block))
    if count is not None:
        count(len(block), block_size)
    return rows + len(block), size + block_size


async def _copy_rows_of_nothing(
    source: Connection, target: Connection, table: PublishedTable
) -> int:
    """Copy a table without columns, for which COPY has no syntax; return how many rows it has."""
    name = sql.Identifier(table.schema, table.name)
    count = sql.SQL("select count(*) from only {}").format(name)
    row = await (await source.execute(count)).fetchone()
    assert row is not None
    insert = sql.SQL("insert into {} select from generate_series(1, %s::int8)").format(name)
    await target.execute(insert, row)
    return int(str(row[0]))


async def note_copied(
    target: Connection, slot: str, table: PublishedTable, rows: int, size: int
) -> None:
    """Write, in the transaction that holds them, that the rows of a table are a copy of ours."""
    await target.execute(
        "insert into cdc.snapshot_chunk (slot, relation, rows, bytes) values (%s, %s, %s, %s)"
        " on conflict (slot, relation) do update"
        " set rows = excluded.rows, bytes = excluded.bytes, copied_at = now()",
        (slot, f"{table.schema}.{table.name}", rows, size),
    )


def copy_statements(
    table: PublishedTable, *, partitioned: bool
) -> tuple[sql.Composed, sql.Composed]:
    """Return the COPY that reads a table's published part, and the one that writes it."""
    name = sql.Identifier(table.schema, table.name)
    columns = sql.SQL(", ").join(_identifiers(table.columns))
    if partitioned or table.row_filter is not None:
        # A partitioned table can only be read by a query, and so can a part of the rows; rows of
        # tables that inherit from it are theirs.
        rows = sql.SQL(f"where {table.row_filter}" if table.row_filter else "")
        own = sql.SQL("" if partitioned else "only ")
        out = sql.SQL("copy (select {} from {}{} {}) to stdout").format(columns, own, name, rows)
    else:
        out = sql.SQL("copy {} ({}) to stdout").format(name, columns)
    return out, sql.SQL("copy {} ({}) from stdin").format(name, columns)


def _identifiers(names: list[str]) -> Iterator[sql.Identifier]:
    return (sql.Identifier(name) for name in names)

"""Chunks of a table: ranges of its key, each read by one short query.

A table is cut where both servers put keys in the same order: by numbers, dates, uuids, and by texts
in byte order (COLLATE "C": the order of other collations is not the same from one library to the
next). Any other table is one chunk. So is one without a key: which of its rows a chunk has shown,
its later changes could not tell.

The cuts need not be exact: a chunk is what lies between two keys when it is read.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from psycopg.rows import class_row

from cdc.changes.copies import Range
from cdc.postgres.catalog import CatalogTable, Column
from cdc.postgres.names import literal, quoted
from cdc.postgres.ordering import QualifiedName
from cdc.postgres.session import Connection
from cdc.source.publication import PublishedTable

# Without an index in the order of the cuts, each chunk reads the whole table.
MOST_CHUNKS_WITHOUT_INDEX = 16

_TEXTS = {19, 25, 1042, 1043}
# Booleans, bytea, "char", integers, oids, floats, inet, dates and times, numeric, uuid.
_ORDERED = _TEXTS | {16, 17, 18, 20, 21, 23, 26, 700, 701, 869, 1082, 1083, 1114, 1184, 1700, 2950}

# Waits for who has a table for himself. What ANALYZE has noted for a partitioned table, its
# partitions have: only theirs counts.
_SIZES = """
select n.nspname::text as schema, c.relname::text as name,
       coalesce(sum(pg_table_size(p.oid)), 0)::int8 as bytes,
       coalesce(sum(greatest(p.reltuples, 0)) filter (where p.relkind <> 'p'), 0)::int8 as rows
  from pg_class c join pg_namespace n on n.oid = c.relnamespace,
       lateral (select c.oid union select relid from pg_partition_tree(c.oid)) t(oid)
  join pg_class p on p.oid = t.oid
 where (n.nspname, c.relname) in (select * from unnest(%s::text[], %s::text[]))
 group by 1, 2
"""

# The catalog as the snapshot shows it, beside what there is: the table of that name, its files, and
# its partitions. One that is newer than the snapshot has no rows in it.
_AS_SHOWN = """
with recursive present as (
  select {0}::regclass::oid as oid union select relid::oid from pg_partition_tree({0}::regclass)
), shown as (
  select c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace
   where c.oid = {0}::regclass and n.nspname = {1} and c.relname = {2}
  union
  select c.oid from shown s join pg_inherits i on i.inhparent = s.oid
    join pg_class c on c.oid = i.inhrelid and c.relispartition
)
select exists (select from shown)
   and not exists (select from shown where oid not in (select oid from present))
   and not exists (select from present join pg_class using (oid)
                    where oid not in (select oid from shown)
                       or relfilenode <> pg_relation_filenode(oid))
"""

_UNKNOWN_ROW_BYTES = 100


@dataclass(slots=True)
class Size:
    """How large a table is, with its partitions."""

    schema: str
    name: str
    bytes: int
    rows: int
    """By the statistics of the source; 0 where it has none."""


class Cut:
    """How a table is cut by its key, on both servers."""

    def __init__(self, source: CatalogTable, target: CatalogTable, key: Sequence[str]) -> None:
        columns = {column.name: column for column in source.columns}
        there = {column.name: column for column in target.columns}
        self._columns = [columns[name] for name in key]
        self.possible = bool(key) and all(
            c.type_oid in _ORDERED and there[c.name].type_oid == c.type_oid for c in self._columns
        )
        """The table may be more than one chunk."""
        self.by_index = not any(column.type_oid in _TEXTS for column in self._columns)
        """The key's index has the order of the cuts; not known of texts."""

    @property
    def order(self) -> str:
        """The expressions that the table is cut by."""
        return ", ".join(map(_expression, self._columns))

    @property
    def texts(self) -> str:
        """The key as texts."""
        return ", ".join(f"{quoted(column.name)}::text" for column in self._columns)

    @property
    def names(self) -> str:
        """The key's columns."""
        return ", ".join(quoted(column.name) for column in self._columns)

    def condition(self, part: Range) -> str:
        """Return the condition that a row is in a range."""
        conditions = [
            f"({self.order}) {operator} ({', '.join(map(_value, self._columns, bound))})"
            for operator, bound in ((">", part.lower), ("<=", part.upper))
            if bound is not None
        ]
        return " and ".join(conditions) or "true"


def _expression(column: Column) -> str:
    return (
        f'{quoted(column.name)} collate "C"' if column.type_oid in _TEXTS else quoted(column.name)
    )


def _value(column: Column, text: str) -> str:
    value = f"{literal(text)}::{column.type}"
    return f'{value} collate "C"' if column.type_oid in _TEXTS else value


async def load_sizes(
    source: Connection, names: Collection[QualifiedName]
) -> dict[QualifiedName, Size]:
    """Return the sizes of tables, in one query however many there are."""
    cursor = source.cursor(row_factory=class_row(Size))
    await cursor.execute(_SIZES, ([schema for schema, _ in names], [name for _, name in names]))
    return {(size.schema, size.name): size async for size in cursor}


async def plan_chunks(
    source: Connection, table: CatalogTable, cut: Cut, size: Size, chunk_bytes: int
) -> list[Range]:
    """Return the ranges of a table's chunks, one at least. Reads its index, or sorts its keys."""
    if not cut.possible or size.bytes <= chunk_bytes:
        return [Range()]
    rows = size.rows or size.bytes // _UNKNOWN_ROW_BYTES
    step = max(1, rows * chunk_bytes // size.bytes)
    if not cut.by_index:
        step = max(step, rows // MOST_CHUNKS_WITHOUT_INDEX + 1)
    statement = (
        f"select {cut.texts} from (select {cut.names}, row_number() over (order by {cut.order}) as"
        f' "cdc n" from {own(table)}) r where "cdc n" % {step} = 0 order by "cdc n"'
    )
    found = await (await source.execute(statement.encode())).fetchall()
    bounds = [tuple(str(value) for value in key) for key in found]
    return [Range(*bounds_of) for bounds_of in zip([None, *bounds], [*bounds, None], strict=True)]


def own(table: CatalogTable) -> str:
    """Return the table as a query names it: rows of tables that inherit from it are theirs."""
    return f"{'' if table.partitioned else 'only '}{quoted(*table.qualified_name)}"


def select_chunk(
    table: CatalogTable, published: PublishedTable, columns: Sequence[str], cut: Cut, part: Range
) -> str:
    """Return the COPY that reads what is published of a chunk."""
    conditions = [f"({text})" for text in (published.row_filter, cut.condition(part)) if text]
    return (
        f"copy (select {', '.join(map(quoted, columns))} from {own(table)}"
        f" where {' and '.join(conditions)}) to stdout"
    )


async def is_as_shown(connection: Connection, name: QualifiedName) -> bool:
    """Tell whether a snapshot shows a table's rows, which were read.

    Not if it was rewritten since, or is another table by now, or has other partitions.

    Asked in the transaction that read them, whose lock lets nobody rewrite it any more.
    """
    statement = _AS_SHOWN.format(literal(quoted(*name)), *map(literal, name))
    row = await (await connection.execute(statement.encode())).fetchone()
    return row is not None and bool(row[0])

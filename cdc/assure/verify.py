r"""Whether two databases hold the same rows: every row of every table, read from both and compared.

Both sides must be quiescent: nobody writes to the source and everything is applied. Against live
writes two snapshots of one LSN would be needed; this does not take them.

Each table is one COPY on either side, sorted by its key as text under collation "C", which is the
same order in every database and every version, whatever its locale. The two are merged row by row,
so a table of any size needs the memory of two rows. Rows are compared as the text that COPY writes,
generated columns too: 1.0 and 1.00 differ, NaN equals NaN, no value goes through a number of ours.
A table without a key is sorted and compared by whole rows, each as often as it occurs.

Compared are the source's tables and columns; what the target has beyond these is its own affair. No
disagreement about the order could make different tables equal: only identical rows, pair by pair
and to the end of both, are that.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from psycopg import sql

from cdc.errors import CheckFailed
from cdc.postgres.catalog import Catalog, CatalogTable
from cdc.postgres.catalog_reader import load_catalog
from cdc.postgres.copyout import copy_out
from cdc.postgres.session import Connection
from cdc.wire.copytext import decode_line

# In rows; about a tenth of a second.
_REPORT_STEPS = 10_000


@dataclass(slots=True)
class TableComparison:
    """The rows of one table, counted; the fields are those of `cdc verify --json`."""

    source_rows: int = 0
    target_rows: int = 0
    missing: int = 0
    """On the source alone."""
    extra: int = 0
    """On the target alone."""
    different: int = 0
    """The same key on both sides, with other values."""

    @property
    def equal(self) -> bool:
        """Tell whether both sides hold the same rows."""
        return not (self.missing or self.extra or self.different)


Report = Callable[[str, TableComparison], None]
"""Called with a table's name and its counts: now and then, and once at its end."""


async def compare(
    source: Connection, target: Connection, schemas: Sequence[str], report: Report
) -> dict[str, TableComparison]:
    """Compare the tables of `schemas`, by name; raises CheckFailed where a table is not on both."""
    tables = await load_catalog(source, schemas)
    if not tables.tables:
        raise CheckFailed(
            f"the source has no table in {', '.join(schemas)}",
            hint="CDC_SOURCE_SCHEMAS names the schemas to copy",
        )
    _require_tables(tables, await load_catalog(target, schemas))
    comparisons: dict[str, TableComparison] = {}
    for table in tables.tables.values():
        comparison = comparisons[str(table)] = TableComparison()
        selection = _select(table)
        async with (
            copy_out(source, selection.statement) as ours,
            copy_out(target, selection.statement) as theirs,
        ):
            reported = partial(report, str(table))
            await _merge(_Lines(ours), _Lines(theirs), selection, comparison, reported)
        report(str(table), comparison)
    return comparisons


def _require_tables(source: Catalog, target: Catalog) -> None:
    for name, table in source.tables.items():
        counterpart = target.tables.get(name)
        if counterpart is None:
            raise CheckFailed(
                f"{table} is missing on the target", hint="`cdc check` names all that is missing"
            )
        lacking = {c.name for c in table.columns} - {c.name for c in counterpart.columns}
        if lacking:
            raise CheckFailed(
                f"{table} has no column {', '.join(sorted(lacking))} on the target",
                hint="`cdc check` names all that is missing",
            )


@dataclass(slots=True, frozen=True)
class _Selection:
    """The statement that reads a table in order, and where in its rows that order is found."""

    statement: bytes
    key: tuple[int, ...]
    """Positions of the key's columns."""

    def key_of(self, line: bytes) -> tuple[bytes, ...]:
        """Return what the server sorted this row by."""
        row = decode_line(line)
        # NULL is sorted as the empty text that format() makes.
        return tuple(row[position] or b"" for position in self.key)


def _select(table: CatalogTable) -> _Selection:
    names = [column.name for column in table.columns]
    columns: Sequence[sql.Composable] = [sql.Identifier(name) for name in names]
    key = [names.index(name) for name in table.primary_key or table.identity_index]
    if not key:
        # One text for the whole row, in which NULL and '' differ; as sort keys they would not.
        columns = [sql.SQL("row({})::text").format(sql.SQL(", ").join(columns))]
        key = [0]
    # format() writes what COPY writes; a cast to text has its own ideas (boolean, character, inet).
    text = sql.SQL("format('%s', {}) collate {}")
    order = [text.format(columns[position], sql.Identifier("C")) for position in key]
    statement = sql.SQL("copy (select {} from {} order by {}) to stdout").format(
        sql.SQL(", ").join(columns),
        sql.Identifier(table.schema, table.name),
        sql.SQL(", ").join(order),
    )
    return _Selection(statement.as_bytes(), tuple(key))


class _Lines:
    """The rows of one side, one after the other."""

    def __init__(self, arriving: AsyncIterator[list[bytes]]) -> None:
        self._arriving = arriving
        self._here: list[bytes] = []

    async def next(self) -> bytes:
        """Return the next row; at the end an empty one, as no row is."""
        if not self._here:
            self._here = (await anext(self._arriving, []))[::-1]
        return self._here.pop() if self._here else b""


async def _merge(
    source: _Lines,
    target: _Lines,
    selection: _Selection,
    counts: TableComparison,
    report: Callable[[TableComparison], None],
) -> None:
    """Walk through both, always on with the one whose key comes first."""
    ours, theirs = await source.next(), await target.next()
    steps = 0
    while ours or theirs:
        if ours == theirs:  # nearly always: so the key need not be looked for
            first = 0
        elif not (ours and theirs):
            first = -1 if ours else 1
        else:
            key, other = selection.key_of(ours), selection.key_of(theirs)
            first = (key > other) - (key < other)
            counts.different += first == 0
        counts.missing += first < 0
        counts.extra += first > 0
        if first <= 0:
            counts.source_rows += 1
            ours = await source.next()
        if first >= 0:
            counts.target_rows += 1
            theirs = await target.next()
        steps += 1
        if steps % _REPORT_STEPS == 0:
            report(counts)

"""Whether a table holds the same rows on both sides: by digests, and where these differ row by row.

Both sides have to stand still for as long, by a snapshot or since nobody writes. No disagreement
about the order of rows could make different tables equal: only identical rows, pair by pair and to
the end of both, are that. A table of any size needs the memory of two blocks of rows.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TypeAlias

from cdc.assure.verify.selection import Selection
from cdc.postgres.copyout import copy_out
from cdc.postgres.ordering import QualifiedName
from cdc.postgres.session import Connection
from cdc.tasks import both

Report: TypeAlias = Callable[[str, "TableComparison"], None]
"""Called with a table's name and its counts: now and then, and once at its end."""

# In rows; about a tenth of a second.
_REPORT_STEPS = 10_000

# So many rows are sent for one that differs, about.
_BUCKET_ROWS = 500
_LEAST_BUCKETS, _MOST_BUCKETS = 64, 4096


@dataclass(slots=True)
class TableComparison:
    """The rows of one table, counted; the fields are those of `cdc verify --json`."""

    source_rows: int = 0
    target_rows: int = 0
    missing: int = 0
    """On the source alone."""
    extra: int = 0
    """On the target alone, but for those that the source has deleted and a policy keeps."""
    different: int = 0
    """The same key on both sides, with other values."""

    @property
    def equal(self) -> bool:
        """Tell whether both sides hold the same rows."""
        return not (self.missing or self.extra or self.different)


@dataclass(slots=True, frozen=True)
class ComparedTable:
    """A table, and what is read of it on either side."""

    qualified_name: QualifiedName
    source: Selection
    target: Selection
    estimated_rows: int
    keeps: bool = False
    """Rows that the source has deleted stay on the target."""

    @property
    def name(self) -> str:
        """Schema and name, as people write them."""
        return shown(self.qualified_name)


def shown(name: QualifiedName) -> str:
    """Return a table's name as people write it."""
    return ".".join(name)


_Digests: TypeAlias = dict[int, tuple[int, str, str]]


async def compare_table(
    source: Connection, target: Connection, table: ComparedTable, report: Report
) -> TableComparison:
    """Compare one table. Raises psycopg.Error."""
    counts = TableComparison()
    buckets = _buckets(table.estimated_rows)
    ours, theirs = await both(
        _digests(source, table.source, buckets), _digests(target, table.target, buckets)
    )
    differing: set[int] = set()
    for bucket in ours.keys() | theirs.keys():
        if (digest := ours.get(bucket)) == theirs.get(bucket) and digest is not None:
            counts.source_rows += digest[0]
            counts.target_rows += digest[0]
        else:
            differing.add(bucket)
    if differing:
        async with (
            copy_out(source, table.source.rows(buckets, differing)) as our_rows,
            copy_out(target, table.target.rows(buckets, differing)) as their_rows,
        ):
            await _merge(_Lines(our_rows), _Lines(their_rows), table, counts, report)
    if table.keeps:
        counts.extra = 0
    report(table.name, counts)
    return counts


def _buckets(rows: int) -> int:
    """Return how many buckets there are for so many rows, by an estimate: a power of two."""
    return max(_LEAST_BUCKETS, min(1 << (rows // _BUCKET_ROWS).bit_length(), _MOST_BUCKETS))


async def _digests(connection: Connection, selection: Selection, buckets: int) -> _Digests:
    """Return the digest of each bucket that has rows."""
    cursor = await connection.execute(selection.digests(buckets).encode())
    return {
        int(str(bucket)): (int(str(rows)), str(first), str(second))
        for bucket, rows, first, second in await cursor.fetchall()
    }


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
    table: ComparedTable,
    counts: TableComparison,
    report: Report,
) -> None:
    """Walk through both, always on with the one whose key comes first."""
    ours, theirs = await source.next(), await target.next()
    key_of = table.source.key_of
    steps = 0
    while ours or theirs:
        if ours == theirs:  # nearly always: so the key need not be looked for
            first = 0
        elif not (ours and theirs):
            first = -1 if ours else 1
        else:
            key, other = key_of(ours), key_of(theirs)
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
            report(table.name, counts)

"""`growth`: whether a row costs the same, however many rows and tables there are.

Drains of one table with ever more rows, and of as many rows in ever more tables; and the same rows
copied by `cdc init`. Sizes, where a cost that grows faster than its rows would show.
"""

from collections.abc import Iterator

from tests.bench import bookings, contest, snapshot
from tests.bench.bench import Bench
from tests.bench.contestants import Cdc, Native
from tests.bench.copiers import Init
from tests.bench.figures import Copy, Drain
from tests.bench.workloads import PER_TRANSACTION, Backlog, transactions

SIZES = ((100_000, 1), (1_000_000, 1), (10_000_000, 1), (1_000_000, 10), (1_000_000, 1_000))
"""Rows and tables."""


def drains(bench: Bench) -> Iterator[Drain]:
    """Drain a backlog of each size."""
    for rows, tables in sizes(bench):
        backlog = Backlog(rows, _statements(rows, tables), tables=bookings.tables(tables))
        yield from contest.run(bench, name(rows, tables), backlog, (Native(), Cdc()))


def copies(bench: Bench) -> Iterator[Copy]:
    """Copy rows of each size."""
    for rows, tables in sizes(bench):
        case = snapshot.Case(name(rows, tables), rows, tables, (Init(),))
        yield from snapshot.copies(bench, case)


def sizes(bench: Bench) -> Iterator[tuple[int, int]]:
    """Give the sizes at the scale of the bench: some rows for each table."""
    for rows, tables in SIZES:
        each = max(1, bench.scaled(rows) // tables // PER_TRANSACTION) * PER_TRANSACTION
        yield each * tables, tables


def name(rows: int, tables: int) -> str:
    """Name a size."""
    return f"{rows:,} rows, {tables:,} table{'s' * (tables > 1)}"


def _statements(changes: int, tables: int) -> list[str]:
    """Insert in transactions of ten rows, each into the next table."""
    per = PER_TRANSACTION
    first, last = f"(t - 1) * {per} + 1", f"t * {per}"
    if tables == 1:
        body = bookings.insert(bookings.names(1)[0], first, last)
    else:
        # The name of the table is the only thing that changes.
        text = bookings.insert("%1$s", "%2$s", "%3$s").replace("'", "''")
        table = f"'credit.bookings_' || 1 + mod(t, {tables})"
        body = f"execute format('{text}', {table}, {first}, {last})"
    return [transactions(changes // per, body)]

"""Whether two databases hold the same rows, asked of the servers: count and two sums of hashes.

The order of the rows does not matter, and a row that came twice does: sums, not exclusive ors.
Both hashes are of 64 bits, with seeds of their own. The sessions' settings are pinned, so that the
same values are the same text. `cdc verify` compares the rows themselves, and takes longer.
"""

from dataclasses import dataclass

from psycopg import sql

from tests.bench.arena import columns_of, watcher

_SEEDS = (17, 4711)

Sums = dict[str, tuple[object, ...]]
"""Of each table: rows, and the sums of both hashes."""


@dataclass(frozen=True, slots=True)
class Contents:
    """The rows of a source, hashed once for all who are compared with it."""

    columns: dict[str, list[str]]
    sums: Sums

    def assert_equal(self, dsn: str) -> None:
        """Assert that the tables of schema credit hold the same rows in another database."""
        other = _sums(dsn, self.columns)
        different = [
            f"{table} ({self.sums[table][0]:,} rows here, {other[table][0]:,} there)"
            for table in self.columns
            if other[table] != self.sums[table]
        ]
        assert not different, f"not the same rows on both sides: {', '.join(different)}"

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(int(str(sums[0])) for sums in self.sums.values())


def contents(dsn: str) -> Contents:
    """Hash all rows of schema credit."""
    columns = columns_of(dsn)
    return Contents(columns, _sums(dsn, columns))


def _sums(dsn: str, tables: dict[str, list[str]]) -> Sums:
    sums: Sums = {}
    hashes = [f"sum(hashtextextended(row({{columns}})::text, {seed}))" for seed in _SEEDS]
    statement = f"select count(*), {', '.join(hashes)} from {{table}}"
    with watcher(dsn) as connection:
        for table, names in tables.items():
            row = connection.execute(
                sql.SQL(statement).format(
                    columns=sql.SQL(", ").join(map(sql.Identifier, names)),
                    table=sql.Identifier("credit", table),
                )
            ).fetchone()
            assert row is not None
            sums[table] = tuple(row)
    return sums

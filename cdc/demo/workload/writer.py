"""What a kind of transaction writes with: one session on the source, its random choices, its count.

Rows are chosen by looking up the first key past a random one, so that nothing has to be remembered
between transactions and a rollback has nothing to forget. A chosen row is locked: what is done to
it next cannot fail because someone else was faster.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import LiteralString
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from cdc.demo.workload import values

CHOOSE = """
select {key} from credit.{table} t where {key} >= %s and {condition}
order by {key} limit 1 for {lock}
"""


@dataclass(slots=True)
class Writer:
    """Writes to the source inside a transaction that its caller opens and commits."""

    connection: psycopg.Connection[TupleRow]
    rng: Random
    run: int
    """Differs from run to run on one source: the part of unique texts that keeps them so."""
    serial: int = 0
    changes: int = 0
    """Rows written since it was last set to 0; not those that a foreign key or trigger wrote."""

    def write(self, query: LiteralString | sql.Composed, *parameters: object) -> int:
        """Execute a statement; return and count the rows that it wrote."""
        rows = self.connection.execute(query, parameters).rowcount
        self.changes += rows
        return rows

    def insert(self, table: str, **columns: object) -> None:
        """Insert a row."""
        self.write(
            sql.SQL("insert into credit.{} ({}) values ({})").format(
                sql.Identifier(table),
                sql.SQL(", ").join(map(sql.Identifier, columns)),
                sql.SQL(", ").join([sql.Placeholder()] * len(columns)),
            ),
            *columns.values(),
        )

    def update(self, table: str, key: UUID, **columns: object) -> None:
        """Update some columns of the row with this id."""
        assignments = [sql.SQL("{} = %s").format(sql.Identifier(column)) for column in columns]
        self.write(
            sql.SQL("update credit.{} set {} where id = %s").format(
                sql.Identifier(table), sql.SQL(", ").join(assignments)
            ),
            *columns.values(),
            key,
        )

    def delete(self, table: str, key: UUID, *, if_: LiteralString = "true") -> bool:
        """Delete the row with this key, if the condition on `t` holds; return whether it did."""
        query = sql.SQL("delete from credit.{} t where {} = %s and {}")
        return self.write(query.format(*_table(table), sql.SQL(if_)), key) == 1

    def read(self, query: LiteralString | sql.Composed, *parameters: object) -> TupleRow:
        """Return the first row of a query; without one, roll back all that was written."""
        row = self.connection.execute(query, parameters).fetchone()
        if row is None:
            raise psycopg.Rollback
        return row

    def some(self, table: str, *, if_: LiteralString = "true") -> UUID:
        """Choose a row to be changed or deleted; nobody else may do so from now on.

        The condition, on `t`, held before the row was locked. Who deletes the row asks again.
        """
        return self._choose(table, sql.SQL(if_), sql.SQL("update"))

    def parent(self, table: str) -> UUID:
        """Choose a row to be referred to; nobody may delete it or change its key from now on."""
        return self._choose(table, sql.SQL("true"), sql.SQL("key share"))

    def unique(self, prefix: str) -> str:
        """Make a text that no row has."""
        self.serial += 1
        return f"{prefix}-{self.run}-{self.serial}"

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Write inside a savepoint, and roll back to it."""
        before = self.changes
        with self.connection.transaction():
            yield
            raise psycopg.Rollback
        self.changes = before

    def _choose(self, table: str, condition: sql.SQL, lock: sql.SQL) -> UUID:
        name, key = _table(table)
        query = sql.SQL(CHOOSE).format(key=key, table=name, condition=condition, lock=lock)
        start = values.key(self.rng)
        row = self.connection.execute(query, (start,)).fetchone()
        # Past the last key, the first one is next.
        chosen = row[0] if row else self.read(query, UUID(int=0))[0]
        assert isinstance(chosen, UUID)
        return chosen


def _table(table: str) -> tuple[sql.Identifier, sql.Identifier]:
    """Name the table and the column that it is looked up by; the key of providers may change."""
    return sql.Identifier(table), sql.Identifier("external_id" if table == "providers" else "id")

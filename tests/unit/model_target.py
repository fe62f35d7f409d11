"""A target in memory: rows, found as strictly as the real one finds them.

A patch meets its row, an insert finds its key free, and so does a new key.
"""

from collections import Counter
from itertools import count

from cdc.changes.relations import QualifiedName, Table
from cdc.wire.messages import UNCHANGED, Row
from tests.unit.model import NamedRow, State


class ModelTarget:
    """Rows by table and key; a column that nobody has set is NULL."""

    def __init__(self, state: State) -> None:
        self.rows: dict[QualifiedName, dict[Row, NamedRow]] = {name: {} for name in state}
        self._numbers = count()

    def insert(self, table: Table, row: Row) -> None:
        """Add a row; COPY would stop at a key that is there."""
        if table.key:
            key = self._identity(table, table.key_values(table.key_of(row)))
            assert key not in self.rows[table.name], "an inserted key is there already"
        self.write(table, row)

    def write(self, table: Table, row: Row) -> None:
        """Set a whole row; one that is there keeps its key as it was written."""
        assert UNCHANGED not in row, "a row that is not whole"
        named = dict(zip(table.columns, row, strict=True))
        key: Row = (b"%d" % next(self._numbers),)
        if table.key:
            key = self._identity(table, table.key_values(table.key_of(row)))
        found = self.rows[table.name].setdefault(key, {})
        found.update(named | {name: found[name] for name in table.key_columns if name in found})

    def patch(self, table: Table, key: Row, row: Row) -> None:
        """Set the values that `row` has on the row that has to be there, a new key too."""
        rows, key = self.rows[table.name], self._identity(table, key)
        assert key in rows, "a patched row is not there"
        found = rows.pop(key)
        pairs = zip(table.columns, row, strict=True)
        found.update({name: value for name, value in pairs if value is not UNCHANGED})
        new_key = self._identity(table, tuple(found[name] for name in table.key_columns))
        assert new_key not in rows, "the new key is taken"
        rows[new_key] = found

    def delete(self, table: Table, key: Row) -> None:
        """Delete a row if it is there."""
        self.rows[table.name].pop(self._identity(table, key), None)

    def change_whole(self, table: Table, old: Row, new: Row | None) -> None:
        """Change or delete one of the rows that equal `old` in every value."""
        rows = self.rows[table.name]
        equal = [
            key
            for key, row in rows.items()
            if all(row.get(n) == value for n, value in zip(table.columns, old, strict=True))
        ]
        assert equal, "a row that is changed is not there"
        if new is None:
            del rows[equal[0]]
        else:
            rows[equal[0]].update(zip(table.columns, new, strict=True))

    def truncate(self, table: Table) -> None:
        """Delete all rows."""
        self.rows[table.name].clear()

    def holds(self, state: State) -> bool:
        """Tell whether the rows are those of the source, columns that it has alone."""
        return self.rows.keys() == state.keys() and all(
            Counter(_known(row) for row in self.rows[name].values()) == Counter(map(_known, rows))
            for name, rows in state.items()
        )

    def _identity(self, table: Table, key: Row) -> Row:
        """What the key is equal by: 1.0 and 1.00 are one number."""
        if table.name[1] == "number":
            return tuple(value and value.rstrip(b"0") for value in key)
        return key


def _known(row: NamedRow) -> frozenset[tuple[str, bytes]]:
    return frozenset((name, value) for name, value in row.items() if value is not None)

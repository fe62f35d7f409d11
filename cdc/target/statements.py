"""The SQL that writes changes of one table to the target: texts and values, nothing is run here.

Two forms of each change. The *row form* is one statement a row, for small batches and for the
replay in source order. The *set form* stages many rows with one COPY into a temporary table and
writes them with one statement a kind:

    inserts   COPY straight into the table (the checkpoint proves that the keys are new)
    updates   insert … select from the stage … on conflict do update
    patches   update … from the stage: rows whose TOAST values stay as they are on the target
    deletes   delete … using the stage

The stage has a column more, the op that a row belongs to. Columns that the target generates are
never written. Identity columns are like any other: `target.tables` has made them BY DEFAULT.
"""

from collections.abc import Callable
from functools import cached_property
from itertools import count
from operator import itemgetter

from cdc.changes.relations import Key, Table
from cdc.postgres.catalog import CatalogTable
from cdc.postgres.equality import cast, equality
from cdc.postgres.names import quoted
from cdc.target.action import Execute
from cdc.target.place import require_place
from cdc.wire.copytext import encode_line
from cdc.wire.messages import UNCHANGED, Row, Value, is_whole

_OP = "cdc op"

# Of a table (MaxHeapAttributeNumber).
_MAX_COLUMNS = 1600

Mask = tuple[int, ...]
"""Positions of the columns that a patch sets."""


class TableStatements:
    """The statements for one shape of a source table and its table on the target."""

    def __init__(self, table: Table, target: CatalogTable, number: int) -> None:
        self.table = table
        # A prepared statement keeps the types that it was prepared with: another shape of the
        # table must not find it.
        self._mark = f" /* {number} */"
        require_place(table, target)
        columns = {column.name: column for column in target.columns}
        self._exact = {n for n, name in enumerate(table.columns) if columns[name].exact_text}
        self.exact_key = self._exact.issuperset(table.key)
        """Equal keys have equal texts."""
        self._stage = quoted("pg_temp", f"cdc stage {number}")
        self._name = quoted(*table.destination)
        # Rows of tables that inherit from it are theirs, and come under their own names.
        whole = target.partitioned and table.destination == table.name
        self._own = self._name if whole else f"only {self._name}"
        self._written = tuple(
            n for n, name in enumerate(table.columns) if not columns[name].generated
        )
        self.left_out = tuple(name for name in table.columns if columns[name].generated)
        """Columns of which the source's values are not written: the target generates them."""
        own = {n: columns[name] for n, name in enumerate(table.columns)}
        self._equality = {n: equality(c) for n, c in own.items()}
        self._cast = {n: cast(c) for n, c in own.items()}
        self._settable = tuple(n for n in self._written if n not in table.key)
        # If the key is another by now, a delete by the old one meets rows that the source has.
        self._limited = table.key_is_assumed
        self._marker = tuple(range(len(table.relation.columns), len(table.columns)))
        self.project = _projection(self._written, len(table.columns))

    def _column(self, position: int) -> str:
        return quoted(self.table.columns[position])

    def _columns(self, positions: tuple[int, ...], prefix: str = "") -> str:
        return ", ".join(prefix + self._column(n) for n in positions)

    def _matches(self, other: Callable[[int], str]) -> str:
        return " and ".join(
            f"t.{self._column(n)} {self._equality[n]} {other(n)}" for n in self.table.key
        )

    def _matches_from(self, parameter: int) -> str:
        """Return the condition that the key equals parameters, from this one on."""
        numbers = dict(zip(self.table.key, count(parameter), strict=False))
        return self._matches(lambda n: f"${numbers[n]}{self._cast[n]}")

    @cached_property
    def _on_conflict(self) -> str:
        if not self.table.key:
            return ""
        key = self._columns(self.table.key)
        # A row that was kept may have an equal key in other words: 1.0, where 1.00 comes.
        kept = self.table.retains and not self.exact_key
        settings = ", ".join(
            f"{self._column(n)} = excluded.{self._column(n)}"
            for n in (self._written if kept else self._settable)
        )
        if not settings:
            return f"on conflict ({key}) do nothing"
        return f"on conflict ({key}) do update set {settings}"

    # Row form

    @cached_property
    def _upsert_row(self) -> bytes:
        if not self._written:
            return f"insert into {self._name} default values{self._mark}".encode()
        values = ", ".join(f"${n}" for n in range(1, len(self._written) + 1))
        return (
            f"insert into {self._name} ({self._columns(self._written)})"
            f" values ({values}) {self._on_conflict}{self._mark}"
        ).encode()

    def upsert_row(self, row: Row) -> Execute:
        """Write a whole row, whether or not it is there; one without a key is added."""
        return Execute(self._upsert_row, self.project(row))

    def change_whole_row(self, old: Row, new: Row | None) -> Execute:
        """Change (or, without `new`, delete) one of the rows that equal `old` in every value.

        Equal in text, so that 1.0 is not taken for 1.00 and a json has an equality too; where equal
        values have equal texts, by the type's own equality, which an index may serve.
        """
        values: list[Value] = [] if new is None else [new[n] for n in self._written]
        sets = ", ".join(f"{self._column(n)} = ${i}" for i, n in enumerate(self._written, 1))
        conditions = []
        for n in self._written:
            if old[n] is None:
                conditions.append(f"{self._column(n)} is null")
                continue
            values.append(old[n])
            column = self._column(n) if n in self._exact else f"format('%s', {self._column(n)})"
            conditions.append(f"{column} = ${len(values)}")
        which = (
            f"where (tableoid, ctid) = (select tableoid, ctid from {self._own}"
            f" where {' and '.join(conditions) or 'true'} limit 1)"
        )
        what = f"delete from {self._own}" if new is None else f"update {self._own} set {sets}"
        text = f"{what} {which}{self._mark}".encode()
        return Execute(text, tuple(values), rows=1, at_most=self.table.in_part)

    @cached_property
    def _delete_row(self) -> bytes:
        text = f"delete from {self._own} t where {self._matches_from(1)}{self._mark}"
        return text.encode()

    def delete_row(self, key: Key) -> Execute:
        """Delete a row by its key, if it is there."""
        rows = 1 if self._limited else None
        values = self.table.key_values(key)
        return Execute(self._delete_row, values, rows, at_most=self._limited)

    def update_row(self, key: Key, row: Row) -> Execute:
        """Set the values that `row` has on the one row that has `key`, a new key too."""
        mask = self.mask(row)
        old, new = self.table.key_values(key), self.table.key_values(self.table.key_of(row))
        if new != old:
            mask = self.table.key + mask
        sets = ", ".join(f"{self._column(n)} = ${i}" for i, n in enumerate(mask, 1))
        if not sets:  # nothing but an unchanged key: the row has to be there all the same
            sets = f"{self._column(self.table.key[0])} = t.{self._column(self.table.key[0])}"
        values = tuple(row[n] for n in mask)
        matches = self._matches_from(len(values) + 1)
        text = f"update {self._own} t set {sets} where {matches}{self._mark}"
        values += old
        whole = self.upsert_row(row) if is_whole(row) else None
        before = self._make_way(old, new) if self.table.retains and new != old else None
        # Which part of the table a key is in, its text does not say: one that changes must be met.
        rows = self._expect(mask, 1) if new == old else 1
        return Execute(text.encode(), values, rows, whole, before)

    def _expect(self, mask: Mask, rows: int) -> int | None:
        """Return how many rows a patch has to meet: a soft delete may come too late, as any may.

        And of a table that is there in part, the copy will bring the row as it is by then.
        """
        return None if (mask and mask == self._marker) or self.table.in_part else rows

    def _make_way(self, old: Row, new: Row) -> Execute:
        """Delete the row that has a key which another row takes over: one that was retained.

        Unless it is that very row: the keys are equal in other words.
        """
        matches, before = self._matches_from(1), self._matches_from(len(self.table.key) + 1)
        text = f"delete from {self._own} t where {matches} and not ({before}){self._mark}"
        return Execute(text.encode(), new + old)

    def mask(self, row: Row) -> Mask:
        """Return the positions of the columns that a patch with this row sets."""
        return tuple(n for n in self._settable if row[n] is not UNCHANGED)

    # Set form

    @property
    def stageable(self) -> bool:
        """The set form can be used: rows have values, and the stage's one column more has room."""
        return 0 < len(self._written) < _MAX_COLUMNS

    @cached_property
    def create_stage(self) -> bytes:
        """Create the temporary table that rows are staged in; it lives as long as the session."""
        return (
            f"create temporary table if not exists {self._stage} on commit delete rows as"
            f" select null::int4 as {quoted(_OP)}, {self._columns(self._written)}"
            f" from {self._name} with no data"
        ).encode()

    @property
    def clear_stage(self) -> bytes:
        """Empty the stage within a transaction; the end of the transaction does it by itself."""
        return f"truncate {self._stage}".encode()

    @cached_property
    def copy_rows(self) -> bytes:
        """COPY straight into the table."""
        return f"copy {self._name} ({self._columns(self._written)}) from stdin".encode()

    @cached_property
    def copy_stage(self) -> bytes:
        """COPY into the stage, the op first."""
        columns = self._columns(self._written)
        return f"copy {self._stage} ({quoted(_OP)}, {columns}) from stdin".encode()

    def stage_line(self, start: bytes, row: Row) -> bytes:
        """Return the line of a row in the stage, which starts with its op."""
        return start + encode_line(self.project(row))

    def stage_patch(self, start: bytes, row: Row) -> bytes:
        """Return the line of a row of which some values stay as they are."""
        values = self.project(row)
        return start + encode_line(tuple([None if v is UNCHANGED else v for v in values]))

    def stage_key(self, start: bytes, key: Key) -> bytes:
        """Return the line of a row of which only the key matters."""
        values: list[bytes | None] = [None] * len(self.table.columns)
        for position, value in zip(self.table.key, self.table.key_values(key), strict=True):
            values[position] = value
        return start + encode_line(self.project(tuple(values)))

    def upsert_stage(self, op: int) -> Execute:
        """Write the staged rows of an op, whether or not they are there."""
        columns = self._columns(self._written)
        return Execute(
            f"insert into {self._name} ({columns}) select {columns}"
            f" from {self._stage} where {quoted(_OP)} = {op} {self._on_conflict}".encode()
        )

    def patch_stage(self, op: int, mask: Mask, rows: int) -> Execute:
        """Set the masked columns of the staged rows of an op; every one of them has to be there."""
        sets = ", ".join(f"{self._column(n)} = s.{self._column(n)}" for n in mask or self.table.key)
        matches = self._matches(lambda n: f"s.{self._column(n)}")
        return Execute(
            f"update {self._own} t set {sets} from {self._stage} s"
            f" where s.{quoted(_OP)} = {op} and {matches}".encode(),
            rows=self._expect(mask, rows),
        )

    def delete_stage(self, op: int, rows: int) -> Execute:
        """Delete the staged rows of an op by their keys; these are so many."""
        matches = self._matches(lambda n: f"s.{self._column(n)}")
        return Execute(
            f"delete from {self._own} t using {self._stage} s"
            f" where s.{quoted(_OP)} = {op} and {matches}".encode(),
            rows=rows if self._limited else None,
            at_most=self._limited,
        )


def _projection(positions: tuple[int, ...], width: int) -> Callable[[Row], Row]:
    if positions == tuple(range(width)):
        return lambda row: row
    if len(positions) == 1:
        only = positions[0]
        return lambda row: (row[only],)
    return itemgetter(*positions)

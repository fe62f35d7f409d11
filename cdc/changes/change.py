"""One change at a time: what a batch's steps were folded from, in source order. Pure.

For whoever cannot write a batch as a whole: the replay in source order, and the quarantine, which
has to tell rows apart. A row is known by its key; where it has none, by all of its values.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cdc.changes.fold import KeyChange, Segment, Step, Truncation, WholeRowChange, resolve
from cdc.changes.relations import QualifiedName, Table
from cdc.wire.messages import Delete, Insert, Row, Update


@dataclass(slots=True, frozen=True)
class Change:
    """A change of one row."""

    table: Table
    old: Row | None
    """What the row was known by; None: it is new."""
    row: Row | None
    """Its values; UNCHANGED stands for those that the target keeps. None: it is gone."""

    @property
    def tables(self) -> tuple[Table]:
        """The table, as a Truncation has several."""
        return (self.table,)

    @property
    def operation(self) -> str:
        """Its name."""
        if self.old is None:
            return "insert"
        return "delete" if self.row is None else "update"

    @property
    def new(self) -> Row | None:
        """What the row is known by afterwards; None: it is gone."""
        return None if self.row is None else known_by(self.table, self.row)

    @property
    def known_by(self) -> tuple[str, ...]:
        """The columns whose values a row is known by."""
        return self.table.key_columns or self.table.columns

    @property
    def identities(self) -> set[Row]:
        """What the row is known by, before and after."""
        return {identity for identity in (self.old, self.new) if identity is not None}


def known_by(table: Table, row: Row) -> Row:
    """Return what tells a row apart from all others."""
    return table.key_values(table.key_of(row)) if table.key else row


def of_message(table: Table, message: Insert | Update | Delete) -> Change:
    """Return the change that a message of a table with a key, or an Insert, makes."""
    match message:
        case Insert():
            return Change(table, None, message.new)
        case Update():
            old, _, new = resolve(message, table)
            return Change(table, table.key_values(old), new)
        case Delete():
            return Change(table, table.key_values(table.key_of(message.old)), None)


def each_change(steps: Iterable[Step]) -> Iterator[Change | Truncation]:
    """Yield the changes of steps, one by one, as the source made them."""
    for step in steps:
        match step:
            case Segment():
                for message in step.messages:
                    yield of_message(step.tables[message.relation_id].table, message)
            case KeyChange(table, old, new):
                yield Change(table, table.key_values(old), new)
            case WholeRowChange(table, old_row, new_row):
                yield Change(table, old_row, new_row)
            case Truncation():
                yield step


def tables_of(steps: Iterable[Step]) -> set[QualifiedName]:
    """Return the names of the tables that steps change."""
    names: set[QualifiedName] = set()
    for step in steps:
        match step:
            case Segment():
                names.update(changes.table.name for changes in step.tables.values())
            case KeyChange(table) | WholeRowChange(table):
                names.add(table.name)
            case Truncation(tables):
                names.update(table.name for table in tables)
    return names

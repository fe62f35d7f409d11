"""A batch's changes counted by table: those that came, and those that are left to be written. Pure.

Counted once a batch, from what the fold has counted on its way: a table costs something, a row
does not.
"""

from collections.abc import Iterable
from typing import TypeAlias

from cdc.changes.fold import KeyChange, Segment, Step, TableChanges, Truncation, WholeRowChange
from cdc.changes.relations import QualifiedName
from cdc.counts import Tally

Tallies: TypeAlias = list[tuple[QualifiedName, Tally]]


def tally(steps: Iterable[Step]) -> Tallies:
    """Count the changes of each table."""
    found: dict[QualifiedName, Tally] = {}
    for step in steps:
        match step:
            case Segment():
                for changes in step.tables.values():
                    _count_segment(found.setdefault(changes.table.name, Tally()), changes)
            case KeyChange(table):
                # Its message was counted where it came in.
                found.setdefault(table.name, Tally()).net.update += 1
            case WholeRowChange(table, _, new):
                _count_whole_row(found.setdefault(table.name, Tally()), deleted=new is None)
            case Truncation(tables):
                for table in tables:
                    counted = found.setdefault(table.name, Tally())
                    counted.received.truncate += 1
                    counted.net.truncate += 1
    return list(found.items())


def _count_segment(counted: Tally, changes: TableChanges) -> None:
    received, net = counted.received, counted.net
    received.insert += changes.inserted
    received.update += changes.updated
    received.delete += changes.deleted
    net.insert += len(changes.inserts)
    net.update += len(changes.updates)
    net.delete += len(changes.deletes)
    counted.filled += changes.filled


def _count_whole_row(counted: Tally, *, deleted: bool) -> None:
    for operations in (counted.received, counted.net):
        operations.delete += deleted
        operations.update += not deleted

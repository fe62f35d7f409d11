"""The order in which a batch's net changes are written, so that constraints hold on the way.

Within a segment deletes come first: they may free a unique value that another row takes. Foreign
keys are no matter: on a prepared table (`target.tables`) they do nothing but check, at the commit.

What that order cannot satisfy (two rows that swap a unique value) the target refuses, and the batch
is replayed in source order. `plan` itself asks for the replay (None) where an order could go wrong
unseen: of a table that keeps deleted rows, two keys that differ in text may be one row.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, count, islice
from typing import TypeVar

from cdc.changes.batch import Batch
from cdc.changes.change import Change, each_change
from cdc.changes.fold import (
    KeyChange,
    Segment,
    Step,
    TableChanges,
    Truncation,
    WholeRowChange,
)
from cdc.changes.relations import Key, QualifiedName, Table
from cdc.errors import ChangeRefused
from cdc.postgres.catalog import Catalog, CatalogTable
from cdc.target.action import CHECK, DEFER, Action, Copy, Execute
from cdc.target.statements import Mask, TableStatements
from cdc.target.truncation import truncate
from cdc.wire.copytext import encode_line
from cdc.wire.messages import Relation, Row, is_whole

_Staged = TypeVar("_Staged", Row, Key)

# Stages and prepared statements outlive the planner that made them, as long as their session.
_NUMBERS = count()

# From this many rows of a table on, staging (a round trip more) beats a statement a row (50 µs).
SET_FORM_ROWS = 24


@dataclass(slots=True)
class Plan:
    """What to run, in two parts: stage rows, then write."""

    stages: list[tuple[TableStatements, Copy]] = field(default_factory=list)
    """The tables that have rows to stage, and these rows; a table stands here once."""
    actions: list[Action] = field(default_factory=list)
    ops: Iterator[int] = field(default_factory=count)
    """Ops not used yet: a table's stage serves all segments of the plan."""

    def stage(
        self,
        statements: TableStatements,
        line: Callable[[bytes, _Staged], bytes],
        rows: Iterable[_Staged],
    ) -> int:
        """Add rows to a table's stage as `line` makes them; return their op."""
        op = next(self.ops)
        lines = map(partial(line, b"%d\t" % op), rows)
        for n, (known, copy) in enumerate(self.stages):
            if known is statements:
                self.stages[n] = known, Copy(copy.sql, chain(copy.lines, lines))
                break
        else:
            self.stages.append((statements, Copy(statements.copy_stage, lines)))
        return op


@dataclass(slots=True, frozen=True)
class _Shape:
    """What the statements of a table depend on."""

    relation: Relation
    key: tuple[int, ...]
    destination: QualifiedName
    in_part: bool


class Planner:
    """Plans batches for the target's tables as the catalog had them when it was loaded."""

    def __init__(self, catalog: Catalog, fresh: Iterable[QualifiedName] = ()) -> None:
        """Plan by a catalog, which was read after the changes of the `fresh` tables came."""
        self._catalog = catalog
        self._fresh = set(fresh)
        self.deferrable = any(table.deferrable for table in catalog.tables.values())
        """Some constraint can wait for the commit, as it may have done on the source."""
        self._statements: dict[Table, TableStatements] = {}
        self._by_shape: dict[_Shape, TableStatements] = {}
        self._unprepared = {t.tree for t in catalog.tables.values() if t.unprepared}

    def statements(self, table: Table) -> TableStatements:
        """Return the statements for a table; raise ChangeRefused where the target has no place."""
        statements = self._statements.get(table)
        if statements is None:
            # A new stream has new tables of the same shapes.
            shape = _Shape(table.relation, table.key, table.destination, table.in_part)
            statements = self._by_shape.get(shape)
            if statements is None:
                target = self._target(table)
                self._require_prepared(table, target)
                statements = TableStatements(table, target, next(_NUMBERS))
                self._require_fresh(statements)
                self._by_shape[shape] = statements
            self._statements[table] = statements
        return statements

    def _require_fresh(self, statements: TableStatements) -> None:
        """Raise ChangeRefused where an old catalog may be why values would be left out."""
        table = statements.table
        if statements.left_out and table.name not in self._fresh:
            raise ChangeRefused(
                f"{table}: whether the target generates {', '.join(statements.left_out)} is to be"
                " looked up",
                hint="the daemon reads the target's catalog again by itself",
            )

    def _require_prepared(self, table: Table, target: CatalogTable) -> None:
        """Raise ChangeRefused where the target would change or refuse what is written."""
        if target.tree in self._unprepared:
            raise ChangeRefused(
                f"{table}: triggers, rules, foreign keys or identity columns of the target's table"
                " are not prepared for a copy",
                hint="let the target's role own the table: the daemon then prepares it",
            )

    def forget_fresh(self) -> None:
        """Plan changes that came after the catalog was read."""
        self._fresh.clear()

    def truncation(self, step: Truncation) -> Execute:
        """Return the statement that empties tables; raise ChangeRefused where none may be."""
        if step.forbidden:
            table = next(table for table in step.tables if table.policy.truncate == "halt")
            raise ChangeRefused(
                f"the source truncated {table}, and its setting truncate is halt",
                hint=f"""to go on, set truncate = "replicate" (or "ignore") in the section"""
                f""" tables."{table}" of cdc.toml, and start again""",
            )
        tables = tuple(
            replace(self._target(t), schema=t.destination[0], name=t.destination[1])
            for t in step.tables
        )
        return truncate(tables, restart_identity=step.restart_identity, deferrable=self.deferrable)

    def plan(self, steps: list[Step]) -> Plan | None:
        """Return what leaves the same rows as the steps' messages one by one; None: replay them."""
        plan = Plan()
        for step in steps:
            match step:
                case Segment():
                    if self._may_be_one_row(step):
                        return None
                    self._plan_segment(step, plan)
                case KeyChange(table, old, new):
                    plan.actions.append(self.statements(table).update_row(old, new))
                case WholeRowChange(table, old, new):
                    plan.actions.append(self.statements(table).change_whole_row(old, new))
                case Truncation():
                    plan.actions.append(self.truncation(step))
        return plan

    def action(self, change: Change | Truncation) -> Execute:
        """Return the statement of one change; raise ChangeRefused where the target has no place."""
        if isinstance(change, Truncation):
            return self.truncation(change)
        statements, table = self.statements(change.table), change.table
        old, row = change.old, change.row
        if not table.key and old is not None:
            return statements.change_whole_row(old, row)
        if row is None:
            assert old is not None
            return statements.delete_row(old)
        if old is None or (old == change.new and is_whole(row)):
            return statements.upsert_row(row)
        return statements.update_row(old, row)

    def in_source_order(self, batch: Batch) -> Iterator[Execute]:
        """Yield the batch's changes one by one, constraints checked where the source checked them.

        What waited for a commit on the source must not wait longer here: a table with checks that
        are pending cannot be truncated.
        """
        actions = map(self.action, each_change(batch.steps))
        done = 0
        for end in batch.transactions:
            yield from islice(actions, end.changes - done)
            done = end.changes
            if self.deferrable:
                yield from (CHECK, DEFER)
        yield from actions

    def _target(self, table: Table) -> CatalogTable:
        try:
            return self._catalog.tables[table.name]
        except KeyError:
            raise ChangeRefused(
                f"the target has no table {table}",
                hint=f"create {table} on the target as it is on the source, then start again"
                " (`cdc check` lists all differences)",
            ) from None

    def _may_be_one_row(self, segment: Segment) -> bool:
        """Tell whether two updates may meet one row of the target, so that their order matters."""
        return any(
            changes.table.retains
            and len(changes.updates) > 1
            and not self.statements(changes.table).exact_key
            for changes in segment.tables.values()
        )

    def _plan_segment(self, segment: Segment, plan: Plan) -> None:
        writes = [self._plan_table(changes, plan) for changes in segment.tables.values()]
        for each in writes:
            plan.actions += each.deletes
        for each in writes:
            plan.actions += each.upserts

    def _plan_table(self, changes: TableChanges, plan: Plan) -> "_Writes":
        statements = self.statements(changes.table)
        rows = len(changes.inserts) + len(changes.updates) + len(changes.deletes)
        if rows < SET_FORM_ROWS or not statements.stageable:
            return _row_form(changes, statements)
        return _set_form(changes, statements, plan)


@dataclass(slots=True)
class _Writes:
    deletes: list[Action]
    upserts: list[Action]


def _row_form(changes: TableChanges, statements: TableStatements) -> _Writes:
    upserts: list[Action] = [statements.upsert_row(row) for row in changes.inserts.values()]
    for key, row in changes.updates.items():
        whole = is_whole(row)
        upserts.append(statements.upsert_row(row) if whole else statements.update_row(key, row))
    return _Writes([statements.delete_row(key) for key in changes.deletes], upserts)


def _set_form(changes: TableChanges, statements: TableStatements, plan: Plan) -> _Writes:
    writes = _Writes([], [])
    if changes.inserts:
        lines = map(encode_line, map(statements.project, changes.inserts.values()))
        writes.upserts.append(Copy(statements.copy_rows, lines))
    if changes.deletes:
        op = plan.stage(statements, statements.stage_key, _in_order(changes.deletes))
        writes.deletes.append(statements.delete_stage(op, len(changes.deletes)))
    whole: list[Row] = []
    patches: dict[Mask, list[Row]] = {}
    for key in _in_order(changes.updates):
        row = changes.updates[key]
        if is_whole(row):
            whole.append(row)
        else:
            patches.setdefault(statements.mask(row), []).append(row)
    if whole:
        op = plan.stage(statements, statements.stage_line, whole)
        writes.upserts.append(statements.upsert_stage(op))
    for mask, rows in patches.items():
        op = plan.stage(statements, statements.stage_patch, rows)
        writes.upserts.append(statements.patch_stage(op, mask, len(rows)))
    return writes


def _in_order(keys: Iterable[Key]) -> list[Key]:
    """Return keys in about the order of an index on them: of their texts, the shorter ones first.

    Rows that lie together are then written together. For numbers the order is the index's.
    """
    in_order = sorted(keys)  # type: ignore[type-var]  # no key holds a NULL
    in_order.sort(key=len)  # type: ignore[arg-type]
    return in_order

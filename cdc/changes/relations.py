"""Which columns tell a relation's rows apart, and when a relation has changed its shape.

A Relation message flags the columns of the replica identity. Under REPLICA IDENTITY FULL it flags
every column, so that the primary key must come from a catalog (`primary_keys`). A relation may have
no key at all: then its rows are told apart by all their values, or are only ever inserted.

On the target a table may have a column more than on the wire, by its policy (`changes.policy`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import TypeAlias

from cdc.changes.copies import Copies, Stage, TableCopy
from cdc.changes.policy import REPLICATE, SKIP, Policy
from cdc.errors import ChangeRefused
from cdc.wire.messages import Column, Relation, Row, Value

Key: TypeAlias = Value | Row
"""The key's value, or a tuple of them where the key has several columns."""

QualifiedName: TypeAlias = tuple[str, str]


@dataclass(slots=True, frozen=True, eq=False)
class Table:
    """A relation as the stream describes it, and what identifies its rows. One object a shape."""

    relation: Relation
    """As it is on the wire."""
    columns: tuple[str, ...]
    """Names, as rows have them after the policy."""
    key: tuple[int, ...]
    """Positions of the key's columns; empty where only all values together identify a row."""
    key_of: Callable[[Row], Key]
    policy: Policy
    retains: bool
    """`policy.retains`, which is asked for each change."""
    destination: QualifiedName
    """Where its rows are written: its own name, but for a shadow (`changes.copies`)."""
    in_part: bool = False
    """Rows may be missing or wrong: its copy has not come whole yet, or it is being mended."""
    key_is_assumed: bool = False
    """The key is from the target's catalog, not from the wire: rows that it cannot tell apart mean
    that the source has another by now. Not for a table that retains rows."""

    @property
    def described(self) -> tuple[Column, ...]:
        """The columns, as rows have them after the policy."""
        return self.relation.columns + self.policy.added

    @property
    def name(self) -> QualifiedName:
        """Schema and name."""
        return self.relation.schema, self.relation.name

    @property
    def key_columns(self) -> tuple[str, ...]:
        """Names of the key's columns."""
        return tuple(self.columns[position] for position in self.key)

    def key_values(self, key: Key) -> Row:
        """Return a key as a tuple, whatever the number of its columns."""
        return key if isinstance(key, tuple) else (key,)

    def __str__(self) -> str:
        return f"{self.relation.schema}.{self.relation.name}"


def identify(
    relation: Relation,
    primary_keys: Mapping[QualifiedName, tuple[str, ...]],
    policy: Policy = REPLICATE,
    copy: TableCopy | None = None,
) -> Table:
    """Return the table behind a Relation message; `copy` is that of it which is under way."""
    if copy is not None and copy.stage is Stage.NOT_BEGUN:
        policy = SKIP
    columns = tuple(column.name for column in relation.columns)
    if relation.replica_identity == "f":
        names = primary_keys.get((relation.schema, relation.name), ())
        key = tuple(columns.index(name) for name in names if name in columns)
        if len(key) < len(names):
            key = ()
    else:
        key = tuple(n for n, column in enumerate(relation.columns) if column.is_key)
    columns += tuple(column.name for column in policy.added)
    assumed = relation.replica_identity == "f" and bool(key) and not policy.retains
    return Table(
        relation,
        columns,
        key,
        key_getter(key),
        policy,
        policy.retains,
        copy.destination if copy is not None else (relation.schema, relation.name),
        copy is not None and copy.stage is Stage.IN_PART,
        assumed,
    )


def key_getter(positions: tuple[int, ...]) -> Callable[[Row], Key]:
    """Return what takes the key out of a row."""
    return itemgetter(*positions) if positions else _no_key


def not_unique(table: Table) -> ChangeRefused:
    """Return the error of a table of which several rows have one key."""
    return ChangeRefused(
        f"{table}: several rows have the same key ({', '.join(table.key_columns)}), which was the"
        " target's primary key when the daemon last looked",
        hint="where the primary key was changed on both sides, start the daemon again; else give"
        " the target the source's (`cdc check` shows how they differ)",
    )


def _no_key(_row: Row) -> Key:
    return ()


class RelationCache:
    """The tables seen on the stream, by relation id."""

    def __init__(
        self,
        primary_keys: Mapping[QualifiedName, tuple[str, ...]],
        policies: Mapping[QualifiedName, Policy] | None = None,
        copies: Copies | None = None,
    ) -> None:
        self._primary_keys = primary_keys
        self._policies = policies or {}
        self._copies = copies
        self._tables: dict[int, Table] = {}
        self._ids: dict[QualifiedName, int] = {}

    def add(self, relation: Relation) -> bool:
        """Note a Relation message; return True if it changes the shape of a table seen before.

        A table dropped and created again under its name is such a change: the id differs, the
        target's table is the same.
        """
        known = self._tables.get(relation.relation_id)
        if known is not None and known.relation == relation:
            return False
        table = self._identify(relation)
        named_before = table.name in self._ids
        self._tables[relation.relation_id] = table
        self._ids[table.name] = relation.relation_id
        return known is not None or named_before

    def refresh(self) -> None:
        """Look at the tables anew: copies have come further. Not while their changes are held."""
        for relation_id, table in self._tables.items():
            self._tables[relation_id] = self._identify(table.relation)

    def _identify(self, relation: Relation) -> Table:
        name = relation.schema, relation.name
        copy = None if self._copies is None else self._copies.look_up(name)
        policy = self._policies.get(name, REPLICATE)
        table = identify(relation, self._primary_keys, policy, copy)
        mending = self._copies is not None and name in self._copies.mending
        return replace(table, in_part=True) if mending else table

    def __getitem__(self, relation_id: int) -> Table:
        """Return the table; raise KeyError if no Relation message named it."""
        return self._tables[relation_id]

"""The tables of some schemas as a server's catalog has them: columns, keys, foreign keys, triggers.

Facts of either side, as `catalog_reader` reads them. What they mean is up to who asks
(`target.statements`, `sync.snapshot`, `assure.preflight`).
"""

from dataclasses import dataclass, field


@dataclass(slots=True, frozen=True)
class Column:
    """A column of a table."""

    name: str
    type: str
    """As format_type() writes it, with modifier: numeric(20,4)."""
    type_oid: int
    type_modifier: int
    not_null: bool
    has_default: bool
    identity: str
    """'' none, a always, d by default (pg_attribute.attidentity)."""
    generated: str
    """'' no, s stored, v virtual (pg_attribute.attgenerated)."""
    exact_text: bool
    """Equal values have equal texts (integers, texts, uuid, … but not numeric: 1.0 = 1.00)."""
    equality_schema: str | None = None
    """Where the type's equality is, if `= $1` alone does not find it, or not the parameter's type:
    types of extensions, composite types, names of objects."""


@dataclass(slots=True, frozen=True)
class ForeignKey:
    """A foreign key, seen from the referencing table."""

    name: str
    references: tuple[str, str]
    deferrable: bool
    acts: bool = False
    """Has an action, or RESTRICT, which cannot wait: it changes or refuses rows by itself."""
    definition: str = ""
    """As pg_get_constraintdef() writes it."""
    passive: str = ""
    """The definition with no action, deferrable."""

    @property
    def unprepared(self) -> bool:
        """It does not wait for the commit, or does more than to check."""
        return self.acts or not self.deferrable


@dataclass(slots=True)
class CatalogTable:
    """A table as the catalog has it."""

    schema: str
    name: str
    owner: str
    replica_identity: str
    """pg_class.relreplident: d default, n nothing, f full, i index."""
    estimated_rows: int
    deferrable: bool
    """Has a constraint that SET CONSTRAINTS … DEFERRED can defer."""
    partitioned: bool = False
    partition: bool = False
    root: list[str] = field(default_factory=list)
    """Schema and name of the partitioned table that a partition is of, at the top."""
    columns: tuple[Column, ...] = ()
    primary_key: tuple[str, ...] = ()
    identity_index: tuple[str, ...] = ()
    """Columns of the index that REPLICA IDENTITY USING INDEX names."""
    unique_keys: tuple[tuple[str, ...], ...] = ()
    """Columns of each unique index that ON CONFLICT can use."""
    foreign_keys: tuple[ForeignKey, ...] = ()
    user_triggers: tuple[str, ...] = ()
    """Triggers of users that would fire for an ordinary session (not internal, not disabled)."""
    rules: tuple[str, ...] = ()
    """Rules that would rewrite what an ordinary session writes."""
    always: frozenset[str] = frozenset()
    """Of the triggers, those that fire for replicas too (ENABLE ALWAYS)."""
    always_rules: frozenset[str] = frozenset()

    @property
    def unprepared(self) -> bool:
        """Something of it would change or refuse rows of the source (`target.tables`)."""
        return (
            bool(self.user_triggers or self.rules)
            or any(column.identity == "a" for column in self.columns)
            or any(key.unprepared for key in self.foreign_keys)
        )

    @property
    def qualified_name(self) -> tuple[str, str]:
        """Schema and name."""
        return self.schema, self.name

    @property
    def tree(self) -> tuple[str, str]:
        """Of a partition the partitioned table at the top, of any other table its own name."""
        return (self.root[0], self.root[1]) if self.root else self.qualified_name

    @property
    def replica_key(self) -> tuple[str, ...]:
        """Columns that identify a row on the stream; empty if nothing does."""
        match self.replica_identity:
            case "d" | "f":
                return self.primary_key
            case "i":
                return self.identity_index
            case _:
                return ()

    def travels(self, *, via_root: bool) -> bool:
        """Tell whether its rows are published under its own name: a partition's, or the root's."""
        return not (self.partition if via_root else self.partitioned)

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(slots=True)
class Catalog:
    """Tables by schema and name."""

    tables: dict[tuple[str, str], CatalogTable] = field(default_factory=dict)

    def primary_keys(self) -> dict[tuple[str, str], tuple[str, ...]]:
        """Return each table's primary key."""
        return {name: table.primary_key for name, table in self.tables.items()}

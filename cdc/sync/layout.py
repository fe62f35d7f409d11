"""How tables are copied: which columns, by which key, in which chunks, and where to.

Read from both catalogs when a copy begins or goes on; what was decided at its begin (chunks,
shadow, foreign keys) stands on the target (`target.copies`).
"""

import secrets
from collections.abc import Collection
from dataclasses import dataclass

import psycopg

from cdc.changes.copies import QualifiedName
from cdc.changes.policy import REPLICATE, Policy
from cdc.errors import CheckFailed
from cdc.postgres.catalog import Catalog, CatalogTable
from cdc.postgres.catalog_reader import load_catalog
from cdc.postgres.equality import equality
from cdc.postgres.names import quoted
from cdc.postgres.ordering import reference_order
from cdc.postgres.session import Connection
from cdc.settings import Settings
from cdc.source.chunks import Cut, own, plan_chunks
from cdc.source.copied import load_copied_tables
from cdc.source.publication import PublishedTable
from cdc.sync.policies import policies
from cdc.target.copies import CopyRow, begin_copy, mark_complete
from cdc.target.ledger import record, resolve_gaps
from cdc.target.merge import Merge, merge
from cdc.target.shadow import drop_shadows, make_shadow
from cdc.target.tables import prepare_tables


@dataclass(slots=True)
class TableLayout:
    """A table on both sides."""

    published: PublishedTable
    source: CatalogTable
    target: CatalogTable
    policy: Policy
    key: tuple[str, ...]
    """Columns by which the stream knows its rows; empty: by all."""

    @property
    def columns(self) -> list[str]:
        """The columns that are copied: those that the target generates are not."""
        generated = {column.name for column in self.target.columns if column.generated}
        return [name for name in self.published.columns if name not in generated]

    @property
    def merged(self) -> list[str]:
        """The columns that a shadow has from the source, or by the table's policy."""
        return [*self.columns, *(column.name for column in self.policy.added)]

    def merge(self, within: str = "true") -> Merge:
        """Return how rows get into the target's table: all, or those within a condition."""
        into = quoted(*self.target.qualified_name)
        columns = {column.name: column for column in self.target.columns}
        same = " and ".join(
            f"t.{quoted(name)} {equality(columns[name])} s.{quoted(name)}" for name in self.key
        )
        return Merge(own(self.target), into, self.merged, same, self.policy, within)

    @property
    def cut(self) -> Cut:
        """How it is cut into chunks."""
        return Cut(self.source, self.target, self.key)


@dataclass(slots=True)
class Layout:
    """Tables to copy, by name, and the target as it is."""

    tables: dict[QualifiedName, TableLayout]
    missing: list[QualifiedName]
    """Tables that the target lacks."""
    target: Catalog
    chunk_bytes: int

    @property
    def in_order(self) -> list[QualifiedName]:
        """The tables, each after those that it references where there is such an order."""
        return [name for name in reference_order(self.target) if name in self.tables]

    @property
    def enforced(self) -> bool:
        """Foreign keys between tables hold while they are copied."""
        return any(self.target.tables[name].foreign_keys for name in self.tables)


async def load_layout(
    source: Connection,
    target: Connection,
    settings: Settings,
    names: Collection[QualifiedName],
) -> Layout:
    """Return how tables are copied."""
    copied = await load_copied_tables(source, settings.source)
    assert copied is not None, "there is a stream, so there is a publication"
    here = await load_catalog(source, settings.source.schemas)
    there = await load_catalog(target, settings.source.schemas)
    kept = policies(settings)
    tables, missing = dict[QualifiedName, TableLayout](), list[QualifiedName]()
    for published in copied.tables:
        name = published.qualified_name
        if name not in names or name not in here.tables:
            continue
        if name not in there.tables:
            missing.append(name)
            continue
        one, other = here.tables[name], there.tables[name]
        key = other.primary_key if one.replica_identity == "f" else one.replica_key
        policy = kept.get(name, REPLICATE)
        tables[name] = TableLayout(published, one, other, policy, key)
    return Layout(tables, missing, there, settings.snapshot.chunk_bytes)


async def begin_copies(
    source: Connection, target: Connection, slot: str, layout: Layout, rows: Collection[CopyRow]
) -> None:
    """Cut the tables whose copies have not begun, and make room for them, in one transaction."""
    new = [row for row in rows if row.name in layout.tables and not row.begun]
    if not new:
        return
    names = {row.name for row in new}
    await prepare_tables(target, slot, layout.target, names)
    cuts = {
        name: await plan_chunks(source, table.source, table.cut, layout.chunk_bytes)
        for name, table in layout.tables.items()
        if name in names
    }
    async with target.transaction():
        keys = await _drop_foreign_keys(target, layout.target, names)
        for row in new:
            table = layout.tables[row.name]
            shadow = await _shadow(target, row, table)
            if shadow is not None:
                await make_shadow(target, table.target, shadow, table.key)
            await begin_copy(
                target,
                slot,
                row.name,
                shadow=shadow,
                foreign_keys=[*row.foreign_keys, *keys.get(row.name, ())],
                parts=cuts[row.name],
            )


async def _shadow(target: Connection, row: CopyRow, table: TableLayout) -> str | None:
    """Return the name of the shadow that a table needs, None if it is live, or new and empty.

    Raises CheckFailed if it has rows of which nobody has said that they may go.
    """
    if row.live:
        return None
    # Another name each time: changes go on to the one before until the stream stands still.
    short = table.target.name.encode()[:40].decode(errors="ignore")
    name = f"shadow {short} {secrets.token_hex(6)}"
    if row.seen_whole and row.replaces:
        # Though it may be empty: a transaction of several tables would be seen in part.
        return name
    cursor = await target.execute(f"select exists (select from {own(table.target)})".encode())
    found = await cursor.fetchone()
    if found is None or not found[0]:
        return None
    if not row.replaces:
        raise CheckFailed(
            f"{table.target} has rows on the target already, and was never copied",
            hint=f"truncate {table.target} on the target if they may go; if they are to become the"
            f" source's: `cdc resync {table.target}`; if they are: `cdc init --no-snapshot`",
        )
    return name


async def complete_copies(
    target: Connection, slot: str, layout: Layout, rows: Collection[CopyRow]
) -> None:
    """Let tables have the rows of their shadows, and their foreign keys back."""
    await target.execute("set constraints all deferred")
    for row in rows:
        table = layout.tables[row.name]
        if row.shadow is not None:
            await merge(target, quoted(*row.destination), table.merge())
    # No table can be altered while a check of its rows waits.
    await target.execute("set constraints all immediate")
    for row in rows:
        for statement in row.foreign_keys:
            await target.execute(statement.encode())
    await mark_complete(target, slot, [row.name for row in rows])
    await drop_shadows(target)
    shown = ", ".join(sorted(f"{row.table_schema}.{row.table_name}" for row in rows))
    count = sum(row.rows for row in rows)
    await record(target, slot, "tables copied", f"{count} rows: {shown}")
    await resolve_gaps(target, slot, "copied anew")


async def _drop_foreign_keys(
    target: Connection, catalog: Catalog, names: Collection[QualifiedName]
) -> dict[QualifiedName, list[str]]:
    """Drop what refers to tables, or from them, until they are copied; return how to put it back.

    Rows come in any order, and of a table that is copied anew the old ones stay meanwhile.
    """
    statements: dict[QualifiedName, list[str]] = {}
    for name, table in catalog.tables.items():
        for key in table.foreign_keys:
            if name not in names and key.references not in names:
                continue
            alter = f"alter table {quoted(*name)}"
            try:
                async with target.transaction():
                    await target.execute(f"{alter} drop constraint {quoted(key.name)}".encode())
            except psycopg.errors.InsufficientPrivilege:
                continue  # the owner keeps it: then what is referred to has to come first
            add = f"{alter} add constraint {quoted(key.name)} {key.passive}"
            statements.setdefault(name if name in names else key.references, []).append(add)
    return statements

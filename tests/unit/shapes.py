"""Tables made by hand: as the stream describes them, and as a target's catalog has them."""

from collections.abc import Sequence

from cdc.changes.relations import QualifiedName, Table, identify
from cdc.postgres import catalog
from cdc.postgres.catalog import Catalog, CatalogTable, ForeignKey
from cdc.wire.messages import Column, Relation

TEXT_OID = 25


def relation(
    relation_id: int,
    name: str,
    columns: Sequence[str],
    *,
    key: Sequence[str] = ("id",),
    replica_identity: str = "d",
) -> Relation:
    """Return the Relation message of a table in schema `credit`; FULL flags every column."""
    full = replica_identity == "f"
    described = tuple(Column(column, full or column in key, TEXT_OID, -1) for column in columns)
    return Relation(relation_id, "credit", name, replica_identity, described)


def table(name: str, columns: Sequence[str], *, key: Sequence[str] = ("id",)) -> Table:
    """Return the table that such a message describes."""
    return identify(relation(1, name, columns, key=key), {})


def column(
    name: str, *, identity: str = "", generated: str = "", exact_text: bool = True
) -> catalog.Column:
    """Return a column of the target."""
    return catalog.Column(
        name=name,
        type="text" if exact_text else "numeric",
        type_oid=TEXT_OID,
        type_modifier=-1,
        not_null=False,
        has_default=False,
        identity=identity,
        generated=generated,
        exact_text=exact_text,
    )


def catalog_table(
    name: str,
    columns: Sequence[str | catalog.Column],
    *,
    key: Sequence[str] = ("id",),
    references: Sequence[str] = (),
    deferrable: bool = False,
) -> CatalogTable:
    """Return a table of the target in schema `credit`; its foreign keys stay in the schema."""
    return CatalogTable(
        schema="credit",
        name=name,
        owner="owner",
        replica_identity="d",
        estimated_rows=0,
        deferrable=deferrable,
        columns=tuple(column(c) if isinstance(c, str) else c for c in columns),
        primary_key=tuple(key),
        unique_keys=(tuple(key),),
        foreign_keys=tuple(
            ForeignKey(f"{name}_{other}_fkey", ("credit", other), deferrable=True)
            for other in references
        ),
    )


def catalog_of(*tables: CatalogTable) -> Catalog:
    """Return a catalog of these tables."""
    by_name: dict[QualifiedName, CatalogTable] = {t.qualified_name: t for t in tables}
    return Catalog(by_name)

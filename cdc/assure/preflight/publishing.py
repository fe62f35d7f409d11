"""Checks of the publication: is it there, is it ours, does it hold what is to be copied.

A publication has to be older than its slot: the slot's first changes are decoded with the catalog
of their own time, in which a younger publication is not there. So one that was dropped cannot be
mended by making it again; from PostgreSQL 18 on, the server would even skip what was written in
between without an error.
"""

import shlex
from collections.abc import Iterator

from cdc.assure.preflight.facts import Facts
from cdc.assure.preflight.findings import Finding, breaks, new_copy, warns
from cdc.assure.preflight.streaming import foreign_slot
from cdc.postgres.names import literal, quoted


def check_schemas(facts: Facts) -> Iterator[Finding]:
    """Find a schema without a table: another database, or another name, is meant."""
    filled = {schema for schema, _ in facts.source.catalog.tables}
    for schema in facts.settings.source.schemas:
        if schema not in filled:
            there = ", ".join(f'"{name}"' for name in facts.source.schemas) or '"…"'
            yield breaks(
                "source",
                f"schema {schema}",
                f"has no table in database {facts.source.server.database}",
                f"export CDC_SOURCE_SCHEMAS='[{there}]'  # schemas that have tables there",
            )


def check_publication_exists(facts: Facts) -> Iterator[Finding]:
    """Find a publication that is gone, and one that `cdc init` would not be allowed to create."""
    if facts.source.publication is not None:
        return
    name = facts.settings.source.publication
    subject, server = f"publication {name}", facts.source.server
    tables = list(facts.copied())
    if facts.initialized:
        yield breaks(
            "source",
            subject,
            "is gone: what was written since then is not in the stream, even if it is made again",
            new_copy(facts.slot),
        )
    elif (
        facts.source.slot is not None
        and not foreign_slot(facts)
        and facts.target.bookkeeping.readable
        and facts.target.bookkeeping.checkpoint is None
    ):
        yield breaks(
            "source",
            subject,
            f"is missing, and slot {facts.slot} is there: a publication has to be older than its"
            " slot",
            f"select pg_drop_replication_slot({literal(facts.slot)});",
        )
    elif not server.superuser and not (
        server.may_create and all(facts.source.access[t.qualified_name].owned for t in tables)
    ):
        schemas = ", ".join(quoted(schema) for schema in facts.settings.source.schemas)
        yield breaks(
            "source",
            subject,
            f"is missing, and role {server.role} may not create it: it lacks CREATE on the"
            " database, or does not own the tables",
            f"create publication {quoted(name)} for tables in schema {schemas};"
            "  -- as a superuser; on Supabase as postgres",
        )


def check_publication_operations(facts: Facts) -> Iterator[Finding]:
    """Find a publication that leaves out a kind of change."""
    publication = facts.source.publication
    if publication is not None and not publication.publishes_all:
        yield breaks(
            "source",
            f"publication {publication.name}",
            "does not publish all of insert, update, delete and truncate",
            f"alter publication {quoted(publication.name)}"
            " set (publish = 'insert, update, delete, truncate');",
        )


def check_publication_tables(facts: Facts) -> Iterator[Finding]:
    """Find tables of ours that are not published."""
    publication = facts.source.publication
    if publication is None:
        return
    published = {table.qualified_name for table in publication.tables}
    missing = [table for table in facts.copied() if table.qualified_name not in published]
    if not missing:
        return
    subject, names = f"publication {publication.name}", ", ".join(map(str, missing))
    tables = ", ".join(quoted(*table.qualified_name) for table in missing)
    add = f"alter publication {quoted(publication.name)} add table {tables};"
    if not facts.initialized:
        problem = f"lacks {names}: their changes would not be copied"
        yield breaks("source", subject, problem, add)
    elif publication.schemas or publication.all_tables:
        yield breaks(
            "source",
            subject,
            f"lacks {names}: their changes are not copied",
            f"{add}  -- the rows that they have by now stay uncopied",
        )
    else:
        problem = f"lacks {names}: the daemon adds them, with their rows"
        yield warns("source", subject, problem, "cdc run")


def check_publication_strangers(facts: Facts) -> Iterator[Finding]:
    """Find published tables that are not ours: the target has no place for their rows."""
    publication, ours = facts.source.publication, facts.settings.source.schemas
    strangers = [t for t in publication.tables if t.schema not in ours] if publication else []
    if publication is None or not strangers:
        return
    whole = sorted({t.schema for t in strangers} & set(publication.schemas))
    single = [quoted(t.schema, t.name) for t in strangers if t.schema not in whole]
    alter = f"alter publication {quoted(publication.name)} drop"
    mend = []
    if whole:
        mend.append(f"{alter} tables in schema {', '.join(map(quoted, whole))};")
    if single:
        mend.append(f"{alter} table {', '.join(single)};")
    if publication.all_tables:  # nothing can be dropped from it
        mend = [f"export CDC_SOURCE_PUBLICATION={shlex.quote(publication.name + '_2')}"]
    yield breaks(
        "source",
        f"publication {publication.name}",
        f"holds {', '.join(f'{t.schema}.{t.name}' for t in strangers)}, outside of the schemas to"
        " copy: it is somebody else's, or CDC_SOURCE_SCHEMAS is incomplete",
        "\n".join(mend),
    )


def check_publication_parts(facts: Facts) -> Iterator[Finding]:
    """Find tables of which only some rows or columns are published."""
    publication = facts.source.publication
    for part in publication.tables if publication else []:
        table = facts.source.catalog.tables.get(part.qualified_name)
        if publication is None or table is None:
            continue
        left_out = [c.name for c in table.columns if not c.generated and c.name not in part.columns]
        if left_out or part.row_filter:
            what = f"columns {', '.join(left_out)}" if left_out else "rows outside of its filter"
            name, publisher = quoted(*table.qualified_name), quoted(publication.name)
            yield warns(
                "source",
                str(table),
                f"is published in part: the target will not have its {what}",
                f"alter publication {publisher} drop table {name};\n"
                f"alter publication {publisher} add table {name};",
            )


def check_partition_identity(facts: Facts) -> Iterator[Finding]:
    """Find partitions of which the old rows that are sent lack the key of the root.

    Published as the root's, their rows are looked for by the root's key; what is sent of an old row
    is for the partition to say. An UPDATE of such a key is not even seen to be one.
    """
    publication, tables = facts.source.publication, facts.source.catalog.tables
    if publication is None or not publication.via_root:
        return
    roots = {
        (name.schema, name.name): tables.get(name.qualified_name) for name in publication.tables
    }
    for table in tables.values():
        root = roots.get((table.root[0], table.root[1])) if table.root else None
        if root is None or table.partitioned or table.replica_identity == "f":
            continue
        if root.replica_key and set(root.replica_key) != set(table.replica_key):
            yield breaks(
                "source",
                str(table),
                f"has another replica identity than {root}, which it is published as: UPDATE and"
                " DELETE would miss its rows",
                f"alter table {quoted(*table.qualified_name)} replica identity full;",
            )


CHECKS = (
    check_partition_identity,
    check_publication_exists,
    check_publication_operations,
    check_publication_tables,
    check_publication_strangers,
    check_publication_parts,
)

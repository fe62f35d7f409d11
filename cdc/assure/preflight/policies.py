"""Checks of what the settings say of single tables: is there such a table, can it keep its rows.

A row that the source has deleted and the target keeps goes on taking part in the target's
constraints: its unique values stay taken, and what it references has to stay as well.
"""

from collections.abc import Iterator

from cdc.assure.preflight.facts import Facts
from cdc.assure.preflight.findings import Finding, breaks, warns
from cdc.postgres.catalog import CatalogTable
from cdc.postgres.names import quoted
from cdc.settings import QualifiedName, TableSettings, parse_table_name

_MARKER_TYPE = "timestamp with time zone"


def _policies(facts: Facts) -> dict[QualifiedName, TableSettings]:
    return {parse_table_name(name): table for name, table in facts.settings.tables.items()}


def _retaining(facts: Facts) -> Iterator[tuple[CatalogTable, CatalogTable, TableSettings]]:
    """Yield the tables, on source and target, of which deleted rows are kept."""
    policies = _policies(facts)
    for source, target in facts.pairs():
        policy = policies.get(source.qualified_name)
        if policy is not None and policy.deletes != "replicate":
            yield source, target, policy


def check_policy_tables(facts: Facts) -> Iterator[Finding]:
    """Find settings of a table that is not copied: a misspelt one would not hold."""
    copied = {table.qualified_name for table in facts.copied()}
    for text in facts.settings.tables:
        if parse_table_name(text) not in copied:
            yield breaks(
                "source",
                f'setting tables."{text}"',
                "names no table that is copied",
                "# correct the name in cdc.toml, or remove the section",
            )


def check_markers(facts: Facts) -> Iterator[Finding]:
    """Find tables with soft deletes that have no column to mark them in."""
    for source, target, policy in _retaining(facts):
        if policy.deletes != "soft":
            continue
        name = policy.deleted_at
        subject, alter = f"{target}.{name}", f"alter table {quoted(*target.qualified_name)}"
        if any(column.name == name for column in source.columns):
            yield breaks(
                "source",
                f"{source}.{name}",
                "is a column of the source, and the setting deleted_at names it for soft deletes",
                f'# in cdc.toml, section tables."{source}": deleted_at = "another name"',
            )
            continue
        there = [column for column in target.columns if column.name == name]
        if not there:
            yield breaks(
                "target",
                subject,
                "is missing: soft deletes set it",
                f"{alter} add column {quoted(name)} {_MARKER_TYPE};",
            )
        elif there[0].type != _MARKER_TYPE:
            yield breaks(
                "target",
                subject,
                f"is {there[0].type}, and soft deletes set a {_MARKER_TYPE}",
                f"{alter} alter column {quoted(name)} type {_MARKER_TYPE} using null;",
            )


def check_retained_references(facts: Facts) -> Iterator[Finding]:
    """Find foreign keys of kept rows to rows that go."""
    kept = {target.qualified_name for _, target, _ in _retaining(facts)}
    for _, target, policy in _retaining(facts):
        for key in target.foreign_keys:
            if key.references not in kept:
                yield breaks(
                    "target",
                    str(target),
                    f"keeps deleted rows (deletes = {policy.deletes}), and its foreign key"
                    f" {key.name} references {'.'.join(key.references)}, which does not: a kept"
                    " row refuses the delete of what it references, or is deleted with it",
                    f"alter table {quoted(*target.qualified_name)}"
                    f" drop constraint {quoted(key.name)};",
                )


def check_retained_values(facts: Facts) -> Iterator[Finding]:
    """Find unique indexes beside the key, in which kept rows go on taking values."""
    for source, target, policy in _retaining(facts):
        name = quoted(*target.qualified_name)
        for columns in target.unique_keys:
            if set(columns) == set(source.replica_key):
                continue
            shown = ", ".join(map(quoted, columns))
            soft = policy.deletes == "soft"
            where = f" where {quoted(policy.deleted_at)} is null" if soft else ""
            yield warns(
                "target",
                str(target),
                f"has a unique index on ({', '.join(columns)}): a value of a deleted row that is"
                " kept cannot be used again",
                f"create {'unique ' if soft else ''}index on {name} ({shown}){where};"
                "  -- and drop the unique one that is there",
            )


CHECKS = (
    check_policy_tables,
    check_markers,
    check_retained_references,
    check_retained_values,
)

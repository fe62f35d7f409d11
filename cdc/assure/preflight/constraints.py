"""Checks of what a table refuses: CHECK, EXCLUDE, UNIQUE, and unique indexes, of both sides.

A target that refuses more than the source will one day refuse a row of it, which ends the daemon.
One that refuses less does no harm to the copy; after a failover it takes what the source would not.

Compared by what they say, not by their names: expressions as the servers write them, but for
parentheses. A unique index is no stricter than one over a part of its columns. Primary keys and
what the stream finds rows by are `definitions`' to judge.
"""

import re
from collections.abc import Iterator

from cdc.assure.preflight.facts import Facts, Intent, Restriction
from cdc.assure.preflight.findings import Finding, breaks, warns
from cdc.postgres.catalog import CatalogTable
from cdc.postgres.names import quoted
from cdc.settings import parse_table_name


def check_stricter_target(facts: Facts) -> Iterator[Finding]:
    """Find what the target refuses and the source may hold."""
    # A stream that runs already goes on until there is such a row.
    runs = facts.initialized and facts.intent is not Intent.ASK
    for source, target in facts.pairs():
        ours = facts.source.restrictions.get(source.qualified_name, [])
        columns = {column.name for column in source.columns}
        for theirs in facts.target.restrictions.get(target.qualified_name, []):
            if theirs.of_key or _is_implied(theirs, by=ours):
                continue
            # With a column of the target's own in it, it may well hold for each row.
            unsure = runs or not columns.issuperset(theirs.columns)
            yield (warns if unsure else breaks)(
                "target",
                str(target),
                f"refuses rows that the source may hold: {theirs.name}, {theirs.definition}",
                _drop(target, theirs),
            )


def check_laxer_target(facts: Facts) -> Iterator[Finding]:
    """Find what the source refuses and the target would take."""
    keeping = {
        parse_table_name(name)
        for name, table in facts.settings.tables.items()
        if table.deletes != "replicate"
    }
    for source, target in facts.pairs():
        theirs = facts.target.restrictions.get(target.qualified_name, [])
        for ours in facts.source.restrictions.get(source.qualified_name, []):
            if ours.of_key or _is_implied(ours, by=theirs):
                continue
            if ours.unique and source.qualified_name in keeping:
                continue  # on purpose: see `policies`
            yield warns(
                "target",
                str(target),
                f"lacks {ours.name}, {ours.definition}: the copy needs it not, but after a failover"
                " nobody would check it",
                _add(target, ours),
            )


def _is_implied(restriction: Restriction, *, by: list[Restriction]) -> bool:
    """Tell whether rows that the others let through are let through by this one."""
    return any(_implies(other, restriction) for other in by)


def _implies(one: Restriction, other: Restriction) -> bool:
    if not one.unique or not other.unique:
        same = _bare(one.definition) == _bare(other.definition)
        return same and one.unique == other.unique and (one.validated or not other.validated)
    return (
        set(one.keys) <= set(other.keys)
        and _bare(one.predicate) in {"", _bare(other.predicate)}
        and (one.nulls_equal or not other.nulls_equal)
        and (not one.deferrable or other.deferrable)
    )


def _bare(text: str) -> str:
    """Return an expression without what the versions write differently."""
    return re.sub(r"[\s()]|NOT VALID$", "", text)


def _drop(table: CatalogTable, restriction: Restriction) -> str:
    if restriction.constraint:
        name = quoted(restriction.name)
        return f"alter table {quoted(*table.qualified_name)} drop constraint {name};"
    return f"drop index {quoted(table.schema, restriction.name)};"


def _add(table: CatalogTable, restriction: Restriction) -> str:
    if not restriction.constraint:
        return f"{restriction.statement};"
    name = quoted(restriction.name)
    alter = f"alter table {quoted(*table.qualified_name)} add constraint {name}"
    return f"{alter} {restriction.definition};"


CHECKS = (check_stricter_target, check_laxer_target)

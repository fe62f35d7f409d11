"""Checks of what our roles may do, and of what on the target would refuse or rewrite our rows.

Triggers and foreign keys stand here too: what they do to a row, they do because the target's role
may not set them aside (`session_replication_role` takes a superuser).
"""

from collections.abc import Iterator

from cdc.assure.preflight.facts import Access, Facts, Intent, Server
from cdc.assure.preflight.findings import Finding, Side, breaks, warns
from cdc.postgres.catalog import CatalogTable
from cdc.postgres.names import quoted
from cdc.postgres.ordering import QualifiedName

_WRITES = ("select", "insert", "update", "delete", "truncate")


def check_privileges(facts: Facts) -> Iterator[Finding]:
    """Find tables that the source's role may not read, or the target's may not write."""
    for table in facts.copied():
        name = table.qualified_name
        yield from _lacking("source", facts.source.server, facts.source.access[name], ("select",))
        if name in facts.target.access:
            yield from _lacking("target", facts.target.server, facts.target.access[name], _WRITES)


def _lacking(
    side: Side, server: Server, access: Access, needed: tuple[str, ...]
) -> Iterator[Finding]:
    role = quoted(server.role)
    missing = ", ".join(p for p in needed if p not in access.privileges)
    grants = []
    if not access.usage:
        grants.append(f"grant usage on schema {quoted(access.schema)} to {role};")
    if missing:
        grants.append(f"grant {missing} on {quoted(access.schema, access.name)} to {role};")
    if grants:
        lacks = ", ".join(filter(None, (missing, "" if access.usage else "usage of its schema")))
        yield breaks(
            side,
            f"{access.schema}.{access.name}",
            f"role {server.role} lacks {lacks}",
            "\n".join(grants),
        )


def check_row_security(facts: Facts) -> Iterator[Finding]:
    """Find roles that see only the rows which a policy shows them."""
    copied = [table.qualified_name for table in facts.copied()]
    sides: tuple[tuple[Side, Server, dict[QualifiedName, Access]], ...] = (
        ("source", facts.source.server, facts.source.access),
        ("target", facts.target.server, facts.target.access),
    )
    for side, server, access in sides:
        limited = [".".join(n) for n in copied if n in access and access[n].row_security]
        if limited:
            yield breaks(
                side,
                f"role {server.role}",
                f"lacks BYPASSRLS, and row security hides rows of {', '.join(limited)} from it",
                f"alter role {quoted(server.role)} bypassrls;"
                "  -- as a role that may; on Supabase connect as postgres",
            )


def check_read_only(facts: Facts) -> Iterator[Finding]:
    """Find a target that takes no writes."""
    server = facts.target.server
    if server.in_recovery:
        yield breaks(
            "target",
            "server",
            "is a read replica",
            "export CDC_TARGET_DSN=…  # of the read-write endpoint",
        )
    elif server.read_only:
        yield breaks(
            "target",
            f"role {server.role}",
            f"has read-only sessions in database {server.database}",
            f"alter role {quoted(server.role)} in database {quoted(server.database)}"
            " set default_transaction_read_only = off;",
        )


def check_bookkeeping(facts: Facts) -> Iterator[Finding]:
    """Find a role that may not keep the books, or not even read them."""
    server, books = facts.target.server, facts.target.bookkeeping
    role, database = quoted(server.role), quoted(server.database)
    grants = [f"grant {grant} to {role};" for grant in books.missing]
    if not books.readable:
        yield warns(
            "target",
            "schema cdc",
            f"may not be read by role {server.role}: slot and checkpoint are not checked",
            "\n".join(grants),
        )
    if grants:
        yield breaks(
            "target",
            "schema cdc",
            f"role {server.role} may not write the bookkeeping",
            "\n".join(grants),
        )
    if not facts.initialized and books.readable and not server.may_create:
        yield breaks(
            "target",
            f"database {server.database}",
            f"role {server.role} may not create the schema cdc in it",
            f"grant create on database {database} to {role};",
        )
    if not server.may_stage:
        yield breaks(
            "target",
            f"database {server.database}",
            f"role {server.role} may not create temporary tables in it: batches are staged there",
            f"grant temporary on database {database} to {role};",
        )


def check_quarantine(facts: Facts) -> Iterator[Finding]:
    """Find changes that could not be applied: the target differs by them."""
    count = facts.target.bookkeeping.quarantined
    if count:
        yield warns(
            "target",
            "cdc.quarantine",
            f"holds {count} changes that were refused, or that wait behind one that was",
            "cdc quarantine list",
        )


def check_triggers(facts: Facts) -> Iterator[Finding]:
    """Find triggers that would rewrite what the source has written."""
    for _, table in facts.pairs():
        if table.user_triggers:
            yield _unprepared(
                facts,
                table,
                str(table),
                f"has triggers that fire on copied rows: {', '.join(table.user_triggers)}",
                "disable trigger user",
            )


def check_rules(facts: Facts) -> Iterator[Finding]:
    """Find rules that would rewrite what the source has written."""
    for _, table in facts.pairs():
        for rule in table.rules:
            yield _unprepared(
                facts,
                table,
                f"{table} ({rule})",
                "is a rule that rewrites what is copied",
                f"disable rule {quoted(rule)}",
            )


def check_identity_columns(facts: Facts) -> Iterator[Finding]:
    """Find columns that assign themselves where the source has a value."""
    for _, table in facts.pairs():
        for column in table.columns:
            if column.identity == "a":
                yield _unprepared(
                    facts,
                    table,
                    f"{table}.{column.name}",
                    "is GENERATED ALWAYS AS IDENTITY: the source's values cannot be set",
                    f"alter column {quoted(column.name)} set generated by default",
                )


def check_foreign_key_actions(facts: Facts) -> Iterator[Finding]:
    """Find foreign keys that do more than check at the commit, and that our role may not alter."""
    for _, table in facts.pairs():
        for key in table.foreign_keys:
            if key.unprepared and not facts.target.access[table.qualified_name].owned:
                name = quoted(key.name)
                yield _unprepared(
                    facts,
                    table,
                    f"{table} ({key.name})",
                    "is a foreign key that acts by itself: the source sends what its own has done"
                    if key.acts
                    else "is a foreign key that is not deferrable: what was one statement on the"
                    " source is many here",
                    f"drop constraint {name}, add constraint {name} {key.passive}"
                    if key.acts
                    else f"alter constraint {name} deferrable",
                )


def _unprepared(
    facts: Facts, table: CatalogTable, subject: str, problem: str, alteration: str
) -> Finding:
    """Return the finding of what the daemon alters on the target's tables, if it owns them."""
    mend = f"alter table {quoted(*table.qualified_name)} {alteration};"
    role = facts.target.server.role
    if not facts.target.access[table.qualified_name].owned:
        problem = f"{problem}; its owner {table.owner} has to alter that, role {role} may not"
        return breaks("target", subject, problem, mend)
    if facts.initialized:
        when = "the daemon alters that before it writes; rows written since it came may differ"
    else:
        when = "`cdc init` alters that"
    return warns("target", subject, f"{problem}; {when}", mend)


def check_foreign_keys(facts: Facts) -> Iterator[Finding]:
    """Find foreign keys to tables that the stream does not fill.

    Where such a table is empty, the first row that refers to it is refused. Where it has rows,
    somebody else fills it (a list of currencies, say), and may go on doing so in time.
    """
    for _, table in facts.pairs():
        for key in table.foreign_keys:
            if key.references in facts.source.catalog.tables:
                continue
            other = ".".join(key.references)
            access = facts.target.access.get(key.references)
            known = access is not None and access.readable
            empty = known and key.references not in facts.target.occupied
            finding = breaks if empty else warns
            yield finding(
                "target",
                str(table),
                f"foreign key {key.name} references {other}, which is not copied"
                + (" and is empty here" if empty else ": each row it refers to has to be there"),
                f"alter table {quoted(*table.qualified_name)} drop constraint {quoted(key.name)};",
            )


def check_rows(facts: Facts) -> Iterator[Finding]:
    """Find rows on the target that a copy of ours has not written."""
    books = facts.target.bookkeeping
    if facts.initialized or not books.readable or facts.intent is Intent.TAKE_OVER:
        return
    finding = breaks if facts.intent is Intent.COPY else warns
    for _, table in facts.pairs():
        if table.qualified_name in facts.target.occupied and str(table) not in books.chunks:
            names = ", ".join(quoted(*name) for name in _referencing(facts, table))
            yield finding(
                "target",
                str(table),
                "has rows already",
                f"truncate {names};  -- if its rows may go; if they are the source's rows:"
                " `cdc init --no-snapshot`",
            )


def _referencing(facts: Facts, table: CatalogTable) -> list[QualifiedName]:
    """Return a table and those that reference it, which TRUNCATE wants to be named with it."""
    names = [table.qualified_name]
    for name in names:
        names += [
            other.qualified_name
            for other in facts.target.catalog.tables.values()
            if other.qualified_name not in names
            and any(key.references == name for key in other.foreign_keys)
        ]
    return names


CHECKS = (
    check_privileges,
    check_row_security,
    check_read_only,
    check_bookkeeping,
    check_quarantine,
    check_triggers,
    check_rules,
    check_identity_columns,
    check_foreign_key_actions,
    check_foreign_keys,
    check_rows,
)

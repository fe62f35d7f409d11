"""Checks of what the stream stands on: servers, roles, publication, slot and checkpoint.

Each check is a pure function of the facts and finds one kind of trouble. Whether slot and checkpoint
leave a gap between them is found out at the start of the stream (`sync.position`): that takes the
state directory of the daemon's own machine.
"""

from collections.abc import Iterator

from cdc.assure.facts import Facts, Intent
from cdc.assure.findings import Finding, breaks, literal, new_copy, quoted, warns

_MEBIBYTE = 1 << 20

# Below this part of max_slot_wal_keep_size an operator should know.
_SCARCE = 0.2


def check_versions(facts: Facts) -> Iterator[Finding]:
    """Find a target that is older than the source: it may lack types and functions."""
    source, target = (side.server.version // 10_000 for side in (facts.source, facts.target))
    if target < source:
        yield warns(
            "target",
            "server version",
            f"is {target}, and the source's is {source}: a target should not be older, it may lack"
            " what the source's tables use",
            f"export CDC_TARGET_DSN=…  # of a project with PostgreSQL {source} or newer",
        )


def check_wal_level(facts: Facts) -> Iterator[Finding]:
    """Find a source that does not write what logical decoding needs."""
    level = facts.source.capacity.wal_level
    if level != "logical":
        yield breaks(
            "source",
            "wal_level",
            f"is {level}: no logical slot can be made",
            "alter system set wal_level = 'logical';  -- then restart the server"
            " (Supabase runs with logical: is CDC_SOURCE_DSN the right one?)",
        )


def check_capacity(facts: Facts) -> Iterator[Finding]:
    """Find a source without a free slot or walsender, where our slot is still to be made."""
    if facts.source.slot_kind is not None:
        return
    capacity = facts.source.capacity
    for setting, used, limit, remark in (
        (
            "max_replication_slots",
            capacity.slots,
            capacity.max_slots,
            "; or drop a slot that nobody needs: select * from pg_replication_slots",
        ),
        ("max_wal_senders", capacity.senders, capacity.max_senders, ""),
    ):
        if used >= limit:
            yield breaks(
                "source",
                setting,
                f"is {limit}, and all of them are taken",
                f"alter system set {setting} = {limit + 5};  -- then restart the server"
                f" (on Supabase: a larger compute){remark}",
            )


def check_source_role(facts: Facts) -> Iterator[Finding]:
    """Find a role that may not stream."""
    server = facts.source.server
    if not server.replication:
        yield breaks(
            "source",
            f"role {server.role}",
            "lacks REPLICATION: it can neither make a slot nor stream",
            f"alter role {quoted(server.role)} replication;"
            "  -- as a superuser; on Supabase connect as postgres",
        )


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
    elif facts.source.slot_kind is not None and facts.target.bookkeeping.checkpoint is None:
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
    """Find tables of ours that are not published, and published ones that are not ours."""
    publication = facts.source.publication
    if publication is None:
        return
    subject, name = f"publication {publication.name}", quoted(publication.name)
    published = {table.qualified_name for table in publication.tables}
    missing = [table for table in facts.copied() if table.qualified_name not in published]
    if missing:
        tables = ", ".join(quoted(*table.qualified_name) for table in missing)
        yield breaks(
            "source",
            subject,
            f"lacks {', '.join(map(str, missing))}: their changes would not be copied",
            f"alter publication {name} add table {tables};"
            + ("  -- rows that they have by now stay uncopied" if facts.initialized else ""),
        )
    foreign = sorted(t for t in published if t[0] not in facts.settings.source.schemas)
    if foreign:
        whole = [schema for schema in publication.schemas if schema in {s for s, _ in foreign}]
        single = [table for table in foreign if table[0] not in whole]
        mend = []
        if publication.all_tables:
            mend.append(f"export CDC_SOURCE_PUBLICATION={quoted(publication.name + '_2')}")
        else:
            if whole:
                mend.append(f"drop tables in schema {', '.join(map(quoted, whole))};")
            if single:
                mend.append(f"drop table {', '.join(quoted(*table) for table in single)};")
            mend = [f"alter publication {name} {statement}" for statement in mend]
        yield breaks(
            "source",
            subject,
            f"holds {', '.join('.'.join(table) for table in foreign)}, outside of the schemas to"
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


def check_slot_kind(facts: Facts) -> Iterator[Finding]:
    """Find a slot of our name that cannot be ours."""
    kind, slot = facts.source.slot_kind, facts.source.slot
    if kind is None:
        return
    plugin, database = facts.settings.source.plugin, facts.source.server.database
    if slot is None or kind.physical:
        problem = "is a physical slot"
    elif kind.temporary:
        problem = "is a temporary slot: it ends with the session that made it"
    elif slot.plugin != plugin:
        problem = f"decodes with {slot.plugin}, not with {plugin}"
    elif slot.database != database:
        problem = f"belongs to database {slot.database}, not to {database}"
    else:
        return
    yield breaks(
        "source",
        f"slot {facts.slot}",
        f"{problem}: it is somebody else's",
        f"export CDC_SOURCE_SLOT={facts.slot[:61]}_2",
    )


def check_slot_without_checkpoint(facts: Facts) -> Iterator[Finding]:
    """Find a slot that no copy of ours has begun with."""
    bookkeeping, slot = facts.target.bookkeeping, facts.source.slot
    if slot is None or not bookkeeping.readable or bookkeeping.checkpoint is not None:
        return
    if any(check_slot_kind(facts)):
        return
    if slot.active:
        yield breaks(
            "source",
            f"slot {facts.slot}",
            f"is read by PID {slot.active_pid}, {slot.consumer}, and the target has no checkpoint"
            " for it",
            f"export CDC_SOURCE_SLOT={facts.slot[:61]}_2",
        )
    elif facts.intent is not Intent.TAKE_OVER:
        yield breaks(
            "source",
            f"slot {facts.slot}",
            "exists, and the target has no checkpoint for it",
            f"select pg_drop_replication_slot({literal(facts.slot)});  -- if it is left over; if the"
            " target already holds the rows as of that slot: `cdc init --no-snapshot`",
        )


def check_checkpoint(facts: Facts) -> Iterator[Finding]:
    """Find a checkpoint of another server, and one whose slot is gone or lost."""
    checkpoint, source = facts.target.bookkeeping.checkpoint, facts.source
    if checkpoint is None:
        return
    subject, slot = f"slot {facts.slot}", source.slot
    identity = checkpoint.identity
    if source.system_identifier is None:
        yield warns(
            "source",
            "system identifier",
            f"may not be read by role {source.server.role}: whether the checkpoint belongs to this"
            " server is only found out when the stream starts",
            f"grant execute on function pg_control_system() to {quoted(source.server.role)};",
        )
    elif (identity.system_identifier, identity.database) != (
        source.system_identifier,
        source.server.database,
    ):
        yield breaks(
            "target",
            f"checkpoint of slot {facts.slot}",
            f"belongs to database {identity.database} of another server"
            if identity.system_identifier != source.system_identifier
            else f"belongs to database {identity.database}, not to {source.server.database}",
            f"delete from cdc.checkpoint where slot = {literal(facts.slot)};  -- if CDC_SOURCE_DSN"
            " is right: the source was restored or replaced, and everything is copied anew",
        )
        return
    if not facts.initialized:
        return
    if source.slot_kind is None:
        yield breaks(
            "source",
            subject,
            "is gone, and the target has a checkpoint for it: changes since then are lost",
            new_copy(facts.slot),
        )
    elif slot is not None and slot.wal_status == "lost":
        reason = slot.invalidation_reason or "its WAL was removed"
        yield breaks("source", subject, f"is lost ({reason})", new_copy(facts.slot))


def check_retention(facts: Facts) -> Iterator[Finding]:
    """Find a slot that is about to be lost, because it lags and the source keeps no more WAL."""
    slot, keep = facts.source.slot, facts.source.capacity.keep_bytes
    if slot is None or keep is None or slot.safe_wal_bytes is None or slot.wal_status == "lost":
        return
    left = max(slot.safe_wal_bytes, 0)
    if left < _SCARCE * keep:
        limit = 2 * keep // _MEBIBYTE
        yield warns(
            "source",
            f"slot {facts.slot}",
            f"is lost once {left // _MEBIBYTE} MB more WAL are written; max_slot_wal_keep_size"
            f" allows {keep // _MEBIBYTE} MB",
            "cdc run  # it catches up; to gain time, as a superuser on the source: alter system"
            f" set max_slot_wal_keep_size = '{limit}MB'; select pg_reload_conf(); on Supabase:"
            f" supabase postgres-config update --config max_slot_wal_keep_size={limit}MB",
        )


CHECKS = (
    check_versions,
    check_wal_level,
    check_capacity,
    check_source_role,
    check_schemas,
    check_publication_exists,
    check_publication_operations,
    check_publication_tables,
    check_publication_parts,
    check_slot_kind,
    check_slot_without_checkpoint,
    check_checkpoint,
    check_retention,
)

"""Checks of what the stream stands on: servers, the source's role, slot and checkpoint.

Each check is a pure function of the facts and finds one kind of trouble. Whether slot and
checkpoint leave a gap between them is found out at the start of the stream (`sync.position`): that
takes the state directory of the daemon's own machine.
"""

from collections.abc import Iterator

from cdc.assure.preflight.facts import Facts, Intent
from cdc.assure.preflight.findings import Finding, breaks, new_copy, warns
from cdc.postgres.names import literal, quoted

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


# By the stream, and by each round of a copy.
_TAKEN = 2


def check_capacity(facts: Facts) -> Iterator[Finding]:
    """Find a source without a free slot and walsender for the stream, and others for the copy."""
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
        if used + _TAKEN > limit:
            yield breaks(
                "source",
                setting,
                f"is {limit}, and {used} are taken: the stream takes one, and the copy another one"
                " for as long as it lasts",
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


def foreign_slot(facts: Facts) -> str | None:
    """Return why the slot of our name cannot be ours, or None."""
    kind, slot = facts.source.slot_kind, facts.source.slot
    plugin, database = facts.settings.source.plugin, facts.source.server.database
    if kind is None:
        return None
    if slot is None or kind.physical:
        return "is a physical slot"
    if kind.temporary:
        return "is a temporary slot: it ends with the session that made it"
    if slot.plugin != plugin:
        return f"decodes with {slot.plugin}, not with {plugin}"
    if slot.database != database:
        return f"belongs to database {slot.database}, not to {database}"
    return None


def check_slot_kind(facts: Facts) -> Iterator[Finding]:
    """Find a slot of our name that cannot be ours."""
    problem = foreign_slot(facts)
    if problem:
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
    if foreign_slot(facts):
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
            f"select pg_drop_replication_slot({literal(facts.slot)});  -- if it is left over; if"
            " the target already holds the rows as of that slot: `cdc init --no-snapshot`",
        )


def check_checkpoint(facts: Facts) -> Iterator[Finding]:
    """Find a checkpoint of another server, and one whose slot is gone or lost."""
    checkpoint, source = facts.target.bookkeeping.checkpoint, facts.source
    if checkpoint is None:
        return
    subject, slot = f"slot {facts.slot}", source.slot
    resyncs = facts.settings.source.on_slot_lost == "resync"
    finding = warns if resyncs else breaks
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
        yield finding(
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
        yield finding(
            "source",
            subject,
            "is gone, and the target has a checkpoint for it: changes since then are lost",
            new_copy(facts.slot),
        )
    elif slot is not None and slot.wal_status == "lost":
        reason = slot.invalidation_reason or "its WAL was removed"
        yield finding("source", subject, f"is lost ({reason})", new_copy(facts.slot))


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
            f"alter system set max_slot_wal_keep_size = '{limit}MB';\n"
            "select pg_reload_conf();  -- that gains time, `cdc run` catches up; on Supabase:"
            f" supabase postgres-config update --config max_slot_wal_keep_size={limit}MB",
        )


CHECKS = (
    check_versions,
    check_wal_level,
    check_capacity,
    check_source_role,
    check_slot_kind,
    check_slot_without_checkpoint,
    check_checkpoint,
    check_retention,
)

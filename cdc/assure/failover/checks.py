"""Judges the facts: what stands in the way of a promotion, and what it would lose.

Each check is a pure function of the facts and finds one kind of trouble on the target or on this
machine; what the source has beyond them, `losses` judges.
"""

from collections.abc import Iterator

from cdc.assure.failover.facts import Facts
from cdc.assure.failover.findings import Finding, breaks, loses, warns
from cdc.assure.failover.losses import check_source
from cdc.assure.failover.sequences import used_up
from cdc.postgres.names import quoted
from cdc.sizes import readable_bytes

# Of tables that have something in common; all of a large schema would be no message.
_NAMED = 3


def check_checkpoint(facts: Facts) -> Iterator[Finding]:
    """Find a target that was never a copy."""
    checkpoint = facts.target.checkpoint
    if checkpoint is None or checkpoint.lsn is None:
        slot = facts.settings.source.slot
        yield breaks(
            "target",
            f"slot {slot}",
            "has no checkpoint: there is no copy, or it was cut off before it began",
            "export CDC_TARGET_DSN=… CDC_SOURCE_SLOT=…  # of the copy; or `cdc init` makes one",
        )


def check_read_only(facts: Facts) -> Iterator[Finding]:
    """Find a target that takes no writes."""
    if facts.target.read_only:
        yield breaks(
            "target",
            f"role {facts.target.role}",
            "may write nothing: this is a read replica, or default_transaction_read_only is on",
            "export CDC_TARGET_DSN=…  # of the read-write endpoint",
        )


def check_copies(facts: Facts) -> Iterator[Finding]:
    """Find tables that are not wholly there."""
    for copy in facts.target.copies:
        if copy.completed:
            continue
        name = f"{copy.table_schema}.{copy.table_name}"
        if copy.live:
            problem = "is compared with the source just now: rows that were asked about may differ"
            yield warns("target", name, problem, "cdc status")
        elif copy.seen_whole:
            problem = "is copied anew: its rows are those from before, and changes are missing"
            yield loses("target", name, problem, "cdc run  # completes it, if the source answers")
        else:
            problem = f"is not wholly copied: {copy.chunks_copied} of {copy.chunks or '?'} chunks"
            yield loses("target", name, problem, "cdc run  # completes it, if the source answers")


def check_ledger(facts: Facts) -> Iterator[Finding]:
    """Find ranges that may be missing."""
    for entry in facts.target.open_entries:
        yield loses(
            "target",
            "cdc.ledger",
            f"has an open entry: {entry}",
            "# changes may be missing. README, “When the slot is lost”: a new copy closes it",
        )


def check_quarantine(facts: Facts) -> Iterator[Finding]:
    """Find changes that could not be applied."""
    if facts.target.quarantined:
        yield loses(
            "target",
            "cdc.quarantine",
            f"holds {facts.target.quarantined} changes that are not applied",
            "cdc quarantine list\ncdc quarantine retry",
        )


def check_spool(facts: Facts) -> Iterator[Finding]:
    """Find changes that are on this machine's disk and not on the target."""
    if facts.spooled is not None:
        yield loses(
            "target",
            f"spool in {facts.settings.state_dir}",
            f"holds {facts.spooled.transactions} transactions"
            f" ({readable_bytes(facts.spooled.bytes)}) that are not applied",
            "cdc run  # applies them, whether the source answers or not; then stop it",
        )


def check_ownership(facts: Facts) -> Iterator[Finding]:
    """Find tables and sequences that would have to be altered, and are not ours."""
    role = facts.target.role
    for name in facts.target.unowned:
        mend = f"alter table {quoted(*name)} owner to {quoted(role)};  -- as its owner"
        problem = f"belongs to another role, and {role} cannot make of it what it was"
        yield breaks("target", ".".join(name), problem, mend)
    for moved in facts.moves:
        one = moved.sequence
        if not one.owned:
            mend = f"alter sequence {quoted(*one.name)} owner to {quoted(role)};  -- as its owner"
            problem = f"belongs to another role, and {role} cannot move it: keys would be taken"
            yield breaks("target", str(one), problem, mend)


def check_unexplained(facts: Facts) -> Iterator[Finding]:
    """Find what is disabled, and the ledger does not say by whom."""
    for one in facts.target.plan.unexplained:
        yield warns(
            "target",
            f"{one.kind} {one.name} of {'.'.join(one.table)}",
            "is disabled, and not by us: it stays disabled",
            f"{one.mend}  -- if it is to work",
        )


def check_keys(facts: Facts) -> Iterator[Finding]:
    """Find foreign keys that rows do not have to keep."""
    for key in facts.target.invalid_keys:
        yield warns(
            "target",
            f"{'.'.join(key.table)} ({key.name})",
            "is a foreign key that is not valid: older rows may refer to nothing",
            f"alter table {quoted(*key.table)} validate constraint {quoted(key.name)};",
        )


def check_sequences(facts: Facts) -> Iterator[Finding]:
    """Find sequences of which nobody knows where they have to go on, and those at their end."""
    for one in facts.target.sequences:
        known = one.name in facts.source.sequences
        if used_up(one):
            problem = f"is used up: {one.reached} is the last number that it has"
            yield warns("target", f"sequence {one}", problem, f"alter sequence {one} …;")
        elif one.unread and not known:
            problem = f"feeds {', '.join(one.unread)}, whose values do not tell where it stood"
            yield _unknown(str(one), problem)
        elif not one.columns and not facts.source.answers:
            yield _unknown(str(one), "feeds no column: nothing here tells where it stood")


def _unknown(sequence: str, problem: str) -> Finding:
    mend = f"alter sequence {sequence} restart with …;  -- past what the application has used"
    return warns("target", f"sequence {sequence}", problem, mend)


def check_policies(facts: Facts) -> Iterator[Finding]:
    """Find tables that keep rows which the source has deleted: the application would see them."""
    for name, policy in facts.settings.tables.items():
        if policy.deletes == "soft":
            yield warns(
                "target",
                name,
                f"keeps rows that the source has deleted, marked in {policy.deleted_at}: the"
                " application will see them",
                f"delete from {name} where {quoted(policy.deleted_at)} is not null;",
            )
        elif policy.deletes == "ignore" or policy.truncate == "ignore":
            yield warns(
                "target",
                name,
                "keeps rows that the source has deleted: the application will see them",
                "# nothing marks them; see what the application makes of it",
            )


def check_gathering(facts: Facts) -> Iterator[Finding]:
    """Find a daemon that gathers changes on purpose: what it has not applied ends with the source.

    A stream that breaks is begun anew from the checkpoint, and a dead source sends nothing again.
    """
    interval_s = facts.settings.apply.flush_interval
    if interval_s:
        yield warns(
            "target",
            "setting apply.flush_interval",
            f"is {interval_s:g} s: so much of what the source has committed is lost if it ends",
            "export CDC_APPLY_FLUSH_INTERVAL=0  # if that is too much; Neon is awake for longer",
        )


def check_access(facts: Facts) -> Iterator[Finding]:
    """Find what would keep the application from writing."""
    access = facts.target.access
    for setting in access.read_only:
        yield warns(
            "target",
            f"role {setting.role}" if setting.role else f"database {setting.database}",
            "has read-only sessions: the application could not write",
            setting.mend,
        )
    if access.ungranted:
        shown = ", ".join(access.ungranted[:_NAMED])
        more = f" and {len(access.ungranted) - _NAMED} more" * (len(access.ungranted) > _NAMED)
        schemas = ", ".join(map(quoted, facts.settings.source.schemas))
        yield warns(
            "target",
            "privileges",
            f"let nobody but the owner write to {shown}{more}: the application needs them, unless"
            " it is the owner",
            f"grant usage on schema {schemas} to …;\n"
            f"grant select, insert, update, delete on all tables in schema {schemas} to …;\n"
            f"grant usage on all sequences in schema {schemas} to …;",
        )


CHECKS = (
    check_checkpoint,
    check_read_only,
    check_copies,
    check_ledger,
    check_quarantine,
    check_spool,
    check_ownership,
    check_unexplained,
    check_keys,
    check_sequences,
    check_policies,
    check_gathering,
    check_access,
)


def judge_facts(facts: Facts, *, promoting: bool) -> list[Finding]:
    """Return what is found, what cannot be mended by waiting first."""
    found = [finding for check in CHECKS for finding in check(facts)]
    return [*found, *check_source(facts, promoting=promoting)]

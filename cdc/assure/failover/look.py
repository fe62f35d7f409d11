"""Looks at both sides and says whether the target could take over. Writes nothing.

The source is asked first, and the checkpoint afterwards: so what the source was confirmed before is
on the target by then, and a difference is one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import psycopg

from cdc.assure.failover.access import load_access
from cdc.assure.failover.blockers import BLOCKED, described_blockers, load_alterers
from cdc.assure.failover.checks import judge_facts
from cdc.assure.failover.facts import Facts, TargetFacts
from cdc.assure.failover.findings import Finding, Severity
from cdc.assure.failover.on_source import SourceFacts, look_at_source
from cdc.assure.failover.sequence_reader import load_sequences
from cdc.assure.failover.state import load_altered, load_plan, load_unowned, load_unvalidated
from cdc.assure.spooled import peek
from cdc.errors import CheckFailed, Unavailable
from cdc.lsn import Lsn
from cdc.postgres.session import Connection, endpoint
from cdc.settings import Settings
from cdc.target.checkpoint import Checkpoint, load_checkpoint
from cdc.target.connection import connect_target
from cdc.target.copies import load_copies
from cdc.target.ledger import load_open_entries
from cdc.target.quarantine import count_open
from cdc.target.sole import writing_sessions

NAME = "cdc failover"

# Whoever alters a table is through by then, or is somebody to be told of.
_LOCK_TIMEOUT_MS = 5000

Covered: TypeAlias = Callable[[Settings, Checkpoint], Lsn]
"""Up to where nothing is missing on a target that stands at a checkpoint (`sync.covered`)."""


@dataclass(slots=True, frozen=True)
class Look:
    """What was seen, and what it means."""

    facts: Facts
    findings: list[Finding]

    @property
    def promoted_at(self) -> str | None:
        """When it was promoted already."""
        checkpoint = self.facts.target.checkpoint
        return None if checkpoint is None else checkpoint.promoted_at

    def of(self, severity: Severity) -> list[Finding]:
        """Return the findings of a severity."""
        return [finding for finding in self.findings if finding.severity is severity]

    @property
    def ready(self) -> bool:
        """The target could take over, and nothing that could still be had would be lost."""
        return not self.of(Severity.BREAKS) and not self.of(Severity.LOSES)

    @property
    def to_do(self) -> list[str]:
        """What a promotion does to the target, for people."""
        plan, moves = self.facts.target.plan, self.facts.moves
        return [
            *(f"{'.'.join(one.table)}: {one.what}" for one in plan.restorations),
            *(f"sequence {moved.sequence} goes on at {moved.restart}" for moved in moves),
        ]


async def look(settings: Settings, covered: Covered, *, promoting: bool) -> Look:
    """Look at both sides. Raises psycopg.Error where the target does not answer."""
    dsn = settings.target.require_dsn()
    source = await look_at_source(settings)
    async with await connect_target(dsn, application_name=NAME) as target:
        await target.execute("set default_transaction_read_only = on")
        await target.execute(f"set lock_timeout = {_LOCK_TIMEOUT_MS}".encode())
        try:
            return await look_at_target(target, settings, source, covered, promoting=promoting)
        except BLOCKED as ex:
            who, to_do = described_blockers(await load_alterers(target, settings.source.schemas))
            raise Unavailable(f"tables cannot be read: locked by {who}", hint=to_do) from ex


async def look_at_target(
    target: Connection,
    settings: Settings,
    source: SourceFacts,
    covered: Covered,
    *,
    promoting: bool,
) -> Look:
    """Look at the target, and judge it with what the source has said."""
    checkpoint = await _load_checkpoint(target, settings)
    facts = Facts(
        settings,
        await _load_target(target, settings, checkpoint),
        source,
        peek(settings),
        _covered(settings, checkpoint, covered),
    )
    return Look(facts, judge_facts(facts, promoting=promoting))


def _covered(settings: Settings, checkpoint: Checkpoint | None, covered: Covered) -> Lsn:
    if checkpoint is None or checkpoint.lsn is None:
        return Lsn(0)
    return covered(settings, checkpoint)


async def _load_checkpoint(target: Connection, settings: Settings) -> Checkpoint | None:
    try:
        return await load_checkpoint(target, settings.source.slot)
    except psycopg.errors.InsufficientPrivilege as ex:
        raise CheckFailed(
            f"role {target.info.user} may not read the schema cdc of {endpoint(target.info.dsn)}",
            hint="name the daemon's own role in CDC_TARGET_DSN",
        ) from ex


_SESSION = """
select r.rolname::text, r.rolsuper, pg_is_in_recovery() or (select boot.reset_val = 'on'
         from pg_settings boot where boot.name = 'default_transaction_read_only')
  from pg_roles r where r.rolname = current_user
"""


async def _load_target(
    target: Connection, settings: Settings, checkpoint: Checkpoint | None
) -> TargetFacts:
    row = await (await target.execute(_SESSION)).fetchone()
    assert row is not None
    role, superuser, read_only = str(row[0]), bool(row[1]), bool(row[2])
    if checkpoint is None or checkpoint.promoted_at is not None:
        return TargetFacts(role, superuser, read_only, checkpoint)
    slot, schemas = settings.source.slot, settings.source.schemas
    plan = await load_plan(target, schemas)
    altered = await load_altered(target, schemas)
    unvalidated = await load_unvalidated(target, schemas)
    return TargetFacts(
        role,
        superuser,
        read_only,
        checkpoint,
        copies=tuple(await load_copies(target, slot)),
        open_entries=tuple(await load_open_entries(target, slot)),
        quarantined=await count_open(target, slot),
        writing=tuple(await writing_sessions(target, slot)),
        plan=plan,
        invalid_keys=tuple(
            key for key in altered.keys if not key.validated and key not in unvalidated
        ),
        unowned=tuple(await load_unowned(target, [one.table for one in plan.restorations])),
        sequences=tuple(await load_sequences(target, schemas)),
        access=await load_access(target, schemas),
    )

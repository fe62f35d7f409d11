"""The promotion: one transaction of the target, wholly done or not at all.

    lock the checkpoint ─► end the daemon's sessions ─► look again ─► take back what the copy needed
                        ─► checkpoint: promoted, epoch raised ─► ledger ─► COMMIT
                        ─► foreign keys are validated, one after the other

The checkpoint comes first: a batch that is about to commit is waited for, and from then on no
daemon can. One that comes back waits for our COMMIT, finds that the target was promoted, and ends.
One that is frozen has no session any more; when it wakes up it comes back. Whoever starts later is
refused by the checkpoint itself, by a trigger: of whatever version it is.

Foreign keys are put back NOT VALID, which asks for no look at the rows, so that applications need
not wait: they hold for all that is written from then on, and act on all. That the rows from before
keep them was checked while they were copied; VALIDATE says so too, beside the applications. Whoever
is killed in between does that when it is run again.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic

import psycopg

from cdc.assure.failover.blockers import BLOCKED, described_blockers, load_blockers
from cdc.assure.failover.findings import Finding, Severity
from cdc.assure.failover.look import NAME, Covered, Look, look_at_target
from cdc.assure.failover.on_source import is_quiet
from cdc.assure.failover.state import load_unvalidated, resolve_noted
from cdc.assure.failover.taking_back import take_back
from cdc.errors import CheckFailed, Unavailable
from cdc.lsn import format_lsn
from cdc.postgres.names import quoted
from cdc.postgres.session import Connection
from cdc.settings import Settings
from cdc.target.checkpoint import Checkpoint, bring_up_to_date, load_checkpoint
from cdc.target.connection import connect_target
from cdc.target.ledger import PROMOTED, record
from cdc.target.sole import end_writers, writing_sessions

# Others wait behind us for so long.
_LOCK_TIMEOUT_MS = 3000
_TRIES = 4
_PAUSE_S = 1.0

# A batch that is being written is worth waiting for; a frozen daemon's never ends.
_SETTLE_S = 10.0
_POLL_S = 0.1


@dataclass(slots=True)
class Promotion:
    """What `cdc failover promote` prints; the fields are its JSON."""

    lsn: str | None
    """Up to which the target holds what the source has committed."""
    commit_time: str | None
    promoted_at: str | None
    before: bool
    """It was promoted already."""
    done: list[str] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    """What was lost, and said to be acceptable."""
    ended: list[int] = field(default_factory=list)
    """PIDs of the daemon's sessions that were ended."""
    seconds: float = 0.0
    """Until it was committed."""
    unvalidated: list[str] = field(default_factory=list)
    """Foreign keys that rows from before do not keep, or that could not be looked at."""


class Refused(CheckFailed):
    """Something would be lost that could still be had, or it cannot be done."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("; ".join(map(str, findings)), hint="`cdc failover check` says what to do")
        self.findings = findings


async def promote(settings: Settings, before: Look, covered: Covered, *, force: bool) -> Promotion:
    """Have applications write to the target from now on. Safe to repeat.

    `before` is what the operator was shown. Raises Refused if it would lose what nobody has been
    told of, Unavailable while somebody holds a lock; then nothing has changed.
    """
    began, slot = monotonic(), settings.source.slot
    dsn = settings.target.require_dsn()
    async with await connect_target(dsn, application_name=NAME) as target:
        result = await _already(target, slot)
        if result is None:
            await _bring_up_to_date(target)
            await _settle(target, slot)
            result = await _retried(target, settings, before, covered, force=force)
    result.seconds = round(monotonic() - began, 3)
    return result


async def _already(target: Connection, slot: str) -> Promotion | None:
    checkpoint = await load_checkpoint(target, slot)
    if checkpoint is None or checkpoint.promoted_at is None:
        return None
    return _result(checkpoint, before=True)


def _result(checkpoint: Checkpoint, *, before: bool) -> Promotion:
    lsn = None if checkpoint.lsn is None else format_lsn(checkpoint.lsn)
    return Promotion(lsn, checkpoint.commit_time, checkpoint.promoted_at, before)


async def _bring_up_to_date(target: Connection) -> None:
    """Have the bookkeeping know of promotions, if another version of cdc has made it."""
    try:
        async with target.transaction():
            await target.execute(f"set local lock_timeout = {_LOCK_TIMEOUT_MS}".encode())
            await bring_up_to_date(target)
    except BLOCKED as ex:
        raise Unavailable(
            "the bookkeeping on the target is locked", hint="the same command again"
        ) from ex


async def _settle(target: Connection, slot: str) -> None:
    """Wait for the batch that is being written, if there is one; not for ever."""
    deadline = monotonic() + _SETTLE_S
    while monotonic() < deadline:
        pids = await writing_sessions(target, slot)
        cursor = await target.execute(
            "select from pg_stat_activity where pid = any(%s) and xact_start is not null", (pids,)
        )
        if await cursor.fetchone() is None:
            return
        await asyncio.sleep(_POLL_S)


async def _retried(
    target: Connection, settings: Settings, before: Look, covered: Covered, *, force: bool
) -> Promotion:
    names = before.facts.target.plan.locked
    for left in reversed(range(_TRIES)):
        try:
            async with target.transaction():
                return await _transaction(target, settings, before, covered, force=force)
        except BLOCKED as ex:
            who, to_do = described_blockers(await load_blockers(target, names))
            if not left:
                raise Unavailable(f"tables are locked by {who}", hint=to_do) from ex
        await asyncio.sleep(_PAUSE_S)
    raise AssertionError


async def _transaction(
    target: Connection, settings: Settings, before: Look, covered: Covered, *, force: bool
) -> Promotion:
    slot, source = settings.source.slot, before.facts.source
    ended = await fence(target, slot)
    done_before = await _already(target, slot)  # by somebody else, whom the lock has waited for
    if done_before is not None:
        return done_before
    now = await look_at_target(target, settings, source, covered, promoting=True)
    accepted = _accepted(now, force=force)
    if source.answers and not await is_quiet(settings, source):
        accepted.append(_written_to(force=force))
    facts = now.facts.target
    done = await take_back(
        target,
        settings.source.schemas,
        now.facts.moves,
        facts.copies,
        lock_timeout_ms=_LOCK_TIMEOUT_MS,
    )
    checkpoint = await mark_promoted(target, settings, accepted)
    result = _result(checkpoint, before=False)
    result.done, result.accepted, result.ended = done, accepted, ended
    return result


def _accepted(look: Look, *, force: bool) -> list[str]:
    """Return what is lost; raise Refused where it may not be, or nothing can be done."""
    breaking, losing = look.of(Severity.BREAKS), look.of(Severity.LOSES)
    if breaking or (losing and not force):
        raise Refused([*breaking, *losing])
    return [str(finding) for finding in losing]


def _written_to(*, force: bool) -> str:
    said = "source tables: are written to while the target is promoted"
    if not force:
        raise Unavailable(
            said, hint="stop what writes to the source; ten seconds later the same command again"
        )
    return said


async def fence(target: Connection, slot: str) -> list[int]:
    """Let no daemon write any more until the transaction ends; return whose sessions were ended."""
    await target.execute(f"set local lock_timeout = {_LOCK_TIMEOUT_MS}".encode())
    await target.execute("select from cdc.checkpoint where slot = %s for update", (slot,))
    return await end_writers(target, slot)


async def mark_promoted(
    target: Connection, settings: Settings, accepted: Sequence[str]
) -> Checkpoint:
    """Write into checkpoint and ledger that the target is no copy any more."""
    slot = settings.source.slot
    await target.execute(
        "update cdc.checkpoint set epoch = epoch + 1, claimed_by = null,"
        " promoted_at = clock_timestamp() where slot = %s",
        (slot,),
    )
    checkpoint = await load_checkpoint(target, slot)
    assert checkpoint is not None
    await resolve_noted(target, settings.source.schemas)
    lost = f"; accepted as lost: {'; '.join(accepted)}" if accepted else ""
    detail = f"holds what was committed until {checkpoint.commit_time or 'the copy'}{lost}"
    await record(target, slot, PROMOTED, detail, to_lsn=checkpoint.lsn)
    return checkpoint


async def validate_all(settings: Settings) -> list[str]:
    """Validate what a promotion has put back NOT VALID, however long that takes. Safe to repeat.

    Returns the statements of those that do not hold for all rows, or are not known to.
    """
    left = []
    dsn = settings.target.require_dsn()
    async with await connect_target(dsn, application_name=NAME) as target:
        for key in await load_unvalidated(target, settings.source.schemas):
            statement = f"alter table {quoted(*key.table)} validate constraint {quoted(key.name)}"
            try:
                await validate(target, statement)
            except (psycopg.errors.ForeignKeyViolation, *BLOCKED):
                left.append(f"{statement};")
    return left


async def validate(target: Connection, statement: str) -> None:
    """Have the server look whether all rows keep a foreign key; others go on meanwhile."""
    async with target.transaction():
        await target.execute(f"set local lock_timeout = {_LOCK_TIMEOUT_MS}".encode())
        await target.execute(statement.encode())

"""The drill: all of a promotion for real, in a transaction of the target that is rolled back.

Tables first and the checkpoint last, other than in a promotion: the daemon's sessions are not
ended, so a batch that it is writing is let through before us. The next one waits for as long as we
hold the tables, some hundredths of a second. Whoever holds a table for longer makes a try fail;
there are few, and short ones. What takes long is done before any lock is taken. Triggers of the
tables are not fired, and no number is taken from a sequence.

The outcome stands in the ledger, whatever it is.
"""

import asyncio
from dataclasses import dataclass, field
from time import monotonic

import psycopg

from cdc.assure.failover.blockers import BLOCKED, described_blockers, load_blockers
from cdc.assure.failover.findings import Severity
from cdc.assure.failover.look import NAME, Covered, Look, look
from cdc.assure.failover.promotion import mark_promoted
from cdc.assure.failover.taking_back import take_back
from cdc.backoff import described, ends_session
from cdc.errors import CdcError
from cdc.postgres.session import Connection
from cdc.settings import Settings
from cdc.target.checkpoint import bring_up_to_date
from cdc.target.connection import connect_target
from cdc.target.ledger import DRILL_FAILED, DRILLED, record

# Less than deadlock_timeout: before the server looks for whom to end, we have given up.
_LOCK_TIMEOUT_MS = 700
_TRIES = 5
_PAUSE_S = 1.0

_LOOK = "what the target's own log says of it; `cdc check` looks at privileges"

# So long the daemon waits for us at most. A foreign key of a partitioned table is looked at whole
# before PostgreSQL 18.
_LONGEST_S = 10


@dataclass(slots=True)
class Drill:
    """What came of it."""

    look: Look
    done: list[str] = field(default_factory=list)
    problem: str = ""
    """Why a promotion would fail; empty: it would not."""
    hint: str = ""
    tries: int = 0
    seconds: float = 0.0
    """All of it, but for the look at the source."""
    locked_seconds: float = 0.0
    """For so long the tables were locked."""

    @property
    def ok(self) -> bool:
        """A promotion would have been done, and would have lost nothing that could be had."""
        return not self.problem and self.look.ready and self.look.promoted_at is None


async def drill(settings: Settings, covered: Covered) -> Drill:
    """Rehearse a promotion. Raises psycopg.Error where the target does not answer."""
    result = Drill(await look(settings, covered, promoting=False))
    if result.look.promoted_at is not None or result.look.facts.target.checkpoint is None:
        return result
    began = monotonic()
    dsn = settings.target.require_dsn()
    async with await connect_target(dsn, application_name=NAME) as target:
        if not result.look.of(Severity.BREAKS):
            await _rehearse(target, settings, result)
        result.seconds = round(monotonic() - began, 3)
        if not result.look.facts.target.read_only:
            await _record(target, settings.source.slot, result)
    return result


async def _rehearse(target: Connection, settings: Settings, result: Drill) -> None:
    names = result.look.facts.target.plan.locked
    for result.tries in range(1, _TRIES + 1):
        try:
            await _try(target, settings, result)
        except BLOCKED:
            who, to_do = described_blockers(await load_blockers(target, names))
            result.problem, result.hint = f"tables are locked by {who}", to_do
            await asyncio.sleep(_PAUSE_S)
        except psycopg.errors.QueryCanceled:
            result.problem = f"a step takes longer than {_LONGEST_S} s"
            result.hint = "a promotion would go on; how long it takes is not known"
            return
        except (psycopg.Error, CdcError) as ex:
            if ends_session(ex):
                raise
            result.problem = described(ex)
            result.hint = ex.hint if isinstance(ex, CdcError) else _LOOK
            return
        else:
            result.problem = result.hint = ""
            return


async def _try(target: Connection, settings: Settings, result: Drill) -> None:
    facts = result.look.facts
    since = monotonic()
    try:
        async with target.transaction(force_rollback=True):
            await target.execute(
                f"set local statement_timeout = '{_LONGEST_S}s';"
                f" set local lock_timeout = {_LOCK_TIMEOUT_MS}".encode()
            )
            await bring_up_to_date(target)
            result.done = await take_back(
                target,
                settings.source.schemas,
                facts.moves,
                facts.target.copies,
                lock_timeout_ms=_LOCK_TIMEOUT_MS,
            )
            await mark_promoted(target, settings, ())
    finally:
        result.locked_seconds = round(monotonic() - since, 3)


async def _record(target: Connection, slot: str, result: Drill) -> None:
    if result.ok:
        detail = (
            f"ok: {len(result.done)} things taken back,"
            f" tables locked for {result.locked_seconds:.2f} s"
        )
    else:
        reasons = [f for f in result.look.findings if f.severity is not Severity.WARNS]
        detail = result.problem or "; ".join(map(str, reasons))
    await record(target, slot, DRILLED if result.ok else DRILL_FAILED, detail)

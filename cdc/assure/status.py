"""Everything at a glance: both sides, slot, checkpoint, snapshot, ledger, what was verified last.

Asks both databases, so it wakes a sleeping target; `assure.lag` does not.
"""

from dataclasses import dataclass

from cdc.assure.lag import Lag, measure_lag
from cdc.assure.spooled import peek
from cdc.lsn import format_lsn
from cdc.postgres.session import Connection, connect, endpoint
from cdc.settings import Settings
from cdc.source.copied import load_copied_tables
from cdc.target.checkpoint import load_checkpoint
from cdc.target.connection import connect_target
from cdc.target.copies import CopyRow, load_copies
from cdc.target.ledger import load_open_entries
from cdc.target.quarantine import count_open
from cdc.target.verification import load_results
from cdc.verified import Verifications


@dataclass(slots=True)
class LastVerification:
    """What `cdc verify` found last; the fields are its JSON."""

    lsn: str
    age_seconds: float
    tables: int
    rows: int
    only: tuple[str, ...] | None
    """The tables that were compared, where it was not all."""
    differing: list[str]
    """All that is known to differ: by this one, or by one before that this did not look at."""


@dataclass(slots=True)
class Status:
    """What `cdc status` prints; the fields are its JSON. None: not there yet."""

    source: str
    target: str
    publication: str | None
    published_tables: int
    lag: Lag
    checkpoint_lsn: str | None
    checkpoint_age_seconds: float | None
    epoch: int | None
    promoted_at: str | None
    """Since when applications write to the target; None: it is a copy."""
    transactions_applied: int
    changes_applied: int
    snapshot_rows: int
    snapshot_tables: int
    copying: list[str]
    """Tables whose copies are under way, and how far they are."""
    open_ledger_entries: list[str]
    quarantined_changes: int
    spooled_bytes: int
    """Queued on this machine's disk, for a target that was away."""
    spooled_transactions: int
    verification: LastVerification | None
    """None: nothing was ever compared."""


async def load_status(settings: Settings) -> Status:
    """Ask both databases."""
    source_dsn, target_dsn = settings.source.require_dsn(), settings.target.require_dsn()
    slot = settings.source.slot
    has_publication = settings.source.plugin == "pgoutput"
    async with await connect(source_dsn) as source, await connect_target(target_dsn) as target:
        copied = await load_copied_tables(source, settings.source)
        lag = await measure_lag(source, settings, ask_target=False)
        checkpoint = await load_checkpoint(target, slot)
        quarantined = 0
        copies: list[CopyRow] = []
        entries: list[str] = []
        if checkpoint is not None:
            copies = await load_copies(target, slot)
            entries = await load_open_entries(target, slot)
            quarantined = await count_open(target, slot)
        verification = await _verification(target, slot)
    spooled = peek(settings)
    lsn = checkpoint.lsn if checkpoint else None
    lag.checkpoint_lsn = None if lsn is None else format_lsn(lsn)
    return Status(
        source=endpoint(source_dsn),
        target=endpoint(target_dsn),
        publication=settings.source.publication if copied and has_publication else None,
        published_tables=len(copied.tables) if copied else 0,
        lag=lag,
        checkpoint_lsn=lag.checkpoint_lsn,
        checkpoint_age_seconds=checkpoint.age_s if checkpoint else None,
        epoch=checkpoint.epoch if checkpoint else None,
        promoted_at=checkpoint.promoted_at if checkpoint else None,
        transactions_applied=checkpoint.transactions if checkpoint else 0,
        changes_applied=checkpoint.changes if checkpoint else 0,
        snapshot_rows=sum(copy.rows for copy in copies),
        snapshot_tables=sum(copy.completed for copy in copies),
        copying=[_copying(copy) for copy in copies if not copy.completed],
        open_ledger_entries=entries,
        quarantined_changes=quarantined,
        spooled_bytes=spooled.bytes if spooled else 0,
        spooled_transactions=spooled.transactions if spooled else 0,
        verification=verification,
    )


async def _verification(target: Connection, slot: str) -> LastVerification | None:
    known = Verifications()
    for found in await load_results(target, slot):
        known.remember(found)
    if known.last is None:
        return None
    # By the target's clock, as the results are.
    cursor = await target.execute("select extract(epoch from clock_timestamp())::float8")
    row = await cursor.fetchone()
    assert row is not None
    return LastVerification(
        lsn=format_lsn(known.last.lsn),
        age_seconds=float(str(row[0])) - known.last.at_unix_s,
        tables=known.last.tables,
        rows=known.last.rows,
        only=known.last.only,
        differing=sorted(known.differing),
    )


def _copying(copy: CopyRow) -> str:
    name = f"{copy.table_schema}.{copy.table_name}"
    if not copy.begun:
        return f"{name}: not begun"
    shown = f"{name}: {copy.chunks_copied} of {copy.chunks} chunks, {copy.rows:,} rows"
    if not copy.chunks_copied or copy.seconds is None:
        return shown
    left_s = copy.seconds / copy.chunks_copied * (copy.chunks - copy.chunks_copied)
    return f"{shown}, about {left_s:.0f} s left"

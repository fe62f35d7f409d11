"""How far the copy is behind, asked of the source alone: no question here wakes a sleeping target.

Bytes: WAL written on the source and not yet confirmed. A running daemon confirms within a second
what others write; where none runs, a little WAL is looked into, and if nothing of it is published
the copy is not behind. Seconds: what the walsender has measured between sending a commit and its
confirmation (pg_stat_replication.flush_lag); 0 where nothing is behind, unknown where nobody
streams. What is queued in this machine's spool is confirmed, but not on the target: it counts as
behind, for a time that nobody knows.
"""

from dataclasses import dataclass

from cdc.assure.spooled import peek
from cdc.errors import CheckFailed
from cdc.lsn import format_lsn, parse_lsn
from cdc.postgres.session import Connection
from cdc.settings import Settings
from cdc.source.plugin import peek_options
from cdc.source.slot import Slot, holds_changes, load_slot
from cdc.target.checkpoint import load_checkpoint
from cdc.target.connection import connect_target

# More WAL than this without a daemon is behind, whatever is in it: decoding it takes too long.
_PEEK_BYTES = 64 << 20


@dataclass(slots=True)
class Lag:
    """What `cdc lag` prints; the fields are its JSON. None: unknown."""

    slot: str
    active: bool
    wal_status: str | None
    source_lsn: str
    confirmed_flush_lsn: str | None
    checkpoint_lsn: str | None
    lag_bytes: int | None
    lag_seconds: float | None
    retained_wal_bytes: int | None
    safe_wal_bytes: int | None

    def exceeds(self, *, max_bytes: int | None, max_seconds: float | None) -> bool:
        """Tell whether a limit is passed; an unknown lag passes every limit."""
        if max_bytes is not None and (self.lag_bytes is None or self.lag_bytes > max_bytes):
            return True
        return max_seconds is not None and (
            self.lag_seconds is None or self.lag_seconds > max_seconds
        )


async def measure_lag(source: Connection, settings: Settings, *, ask_target: bool) -> Lag:
    """Measure once. Raises CheckFailed where there is no slot."""
    slot = await load_slot(source, settings.source.slot)
    if slot is None:
        raise CheckFailed(
            f"the source has no slot {settings.source.slot}",
            hint="`cdc check` says what to do: `cdc init` creates the first one, one that was"
            " lost needs a new copy; `cdc slot list` shows those that there are",
        )
    checkpoint = await _checkpoint_lsn(settings) if ask_target else None
    lag_bytes = slot.lag_bytes
    spooled = peek(settings)
    if spooled is not None:
        lag_bytes = max(parse_lsn(slot.source_lsn) - spooled.after, 0)
    elif (
        lag_bytes
        and lag_bytes <= _PEEK_BYTES
        and not slot.active
        and slot.wal_status != "lost"
        and slot.plugin == settings.source.plugin
        and await holds_changes(source, slot.name, peek_options(settings.source)) is False
    ):
        lag_bytes = 0
    lag_seconds: float | None = 0.0
    if lag_bytes != 0:
        lag_seconds = await _seconds(source, slot) if spooled is None else None
    return Lag(
        slot=slot.name,
        active=slot.active,
        wal_status=slot.wal_status,
        source_lsn=slot.source_lsn,
        confirmed_flush_lsn=slot.confirmed_flush_lsn,
        checkpoint_lsn=checkpoint,
        lag_bytes=lag_bytes,
        lag_seconds=lag_seconds,
        retained_wal_bytes=slot.retained_wal_bytes,
        safe_wal_bytes=slot.safe_wal_bytes,
    )


async def _checkpoint_lsn(settings: Settings) -> str | None:
    async with await connect_target(settings.target.require_dsn()) as target:
        checkpoint = await load_checkpoint(target, settings.source.slot)
    if checkpoint is None or checkpoint.lsn is None:
        return None
    return format_lsn(checkpoint.lsn)


async def _seconds(source: Connection, slot: Slot) -> float | None:
    cursor = await source.execute(
        "select extract(epoch from flush_lag)::float8 from pg_stat_replication where pid = %s",
        (slot.active_pid,),
    )
    row = await cursor.fetchone()
    return None if row is None or row[0] is None else float(str(row[0]))


async def why_seconds_are_unknown(source: Connection, lag: Lag) -> str:
    """Return what a person is told in place of the seconds that a lag lacks."""
    if not lag.active:
        return "unknown: nobody streams"
    cursor = await source.execute(
        "select quote_ident(current_user) where not pg_has_role('pg_read_all_stats', 'usage')"
    )
    row = await cursor.fetchone()
    if row is None:
        return "unknown: not measured yet"
    return (
        f"hidden from role {row[0]}; on the source, as a superuser:"
        f" grant pg_read_all_stats to {row[0]}"
    )

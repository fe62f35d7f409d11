"""Asks the source what holds the pipeline back: it is looked at again and again for two seconds.

Three questions answer almost all: what the walsender does (its wait events), whether the daemon
replies, and whether `confirmed_flush_lsn` moves. A daemon speaks at least every five seconds, so
one that is silent is looked at for seven. Changes nothing, and asks nothing of the target.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic

from psycopg.rows import class_row

from cdc.assure.explain.facts import SILENT_S, Look, Sender, SourceFacts, Spill, has_replied
from cdc.assure.explain.waits import IDLE, UNREAD
from cdc.assure.lag import measure_lag
from cdc.assure.spooled import peek
from cdc.errors import CheckFailed
from cdc.lsn import Lsn, parse_lsn
from cdc.postgres.activity import load_blocked, load_prepared, load_sessions
from cdc.postgres.session import Connection
from cdc.settings import Settings
from cdc.source.lease import is_daemon
from cdc.source.slot import load_slot

# A running daemon confirms within a second what others write (`cdc.assure.lag`).
_LOOK_S = 2.0
_INTERVAL_S = 0.2

_CREATING = (
    "a.backend_type = 'walsender' and a.datname = current_database() and a.wait_event_type = 'Lock'"
)
_COPIERS = "a.application_name like 'cdc copy%' and a.datname = current_database()"

_LOOK = """
select w.lsn::text as written, s.confirmed_flush_lsn::text as confirmed, s.active_pid as holder,
       r.pid, a.application_name as application, host(r.client_addr) as client,
       r.sent_lsn::text as sent, r.write_lsn::text as received, r.replay_lsn::text as applied,
       r.reply_time::text as replied, a.wait_event as wait,
       t.spill_txns as spilled_transactions, t.spill_bytes as spilled_bytes
  from pg_replication_slots s left join pg_stat_replication r on r.pid = s.active_pid
       left join pg_stat_activity a on a.pid = s.active_pid
       left join pg_stat_replication_slots t on t.slot_name = s.slot_name,
       (select case when pg_is_in_recovery() then pg_last_wal_replay_lsn()
               else pg_current_wal_lsn() end as lsn) w
 where s.slot_name = %s
"""


@dataclass(slots=True)
class _Row:
    written: str
    confirmed: str | None
    holder: int | None
    pid: int | None
    application: str | None
    client: str | None
    sent: str | None
    received: str | None
    applied: str | None
    replied: str | None
    wait: str | None
    spilled_transactions: int | None
    spilled_bytes: int | None


async def load_source(
    connection: Connection, settings: Settings, looking: Callable[[], None]
) -> SourceFacts:
    """Return what the source says; `looking` is called if that takes more than one look."""
    name = settings.source.slot
    if await load_slot(connection, name) is None:
        return SourceFacts(name, settings.apply.flush_interval, None)
    lag = await measure_lag(connection, settings, ask_target=False)
    looks, round_trip_s = [], math.inf
    while True:
        asked = monotonic()
        looks.append(await _look(connection, name))
        round_trip_s = min(round_trip_s, monotonic() - asked)
        if lag.lag_bytes == 0 or lag.wal_status == "lost" or _decided(looks):
            break
        if len(looks) == 1:
            looking()
        await asyncio.sleep(_INTERVAL_S)
    cursor = await connection.execute("show logical_decoding_work_mem")
    work_mem = await cursor.fetchone()
    return SourceFacts(
        name,
        settings.apply.flush_interval,
        lag,
        looks=looks,
        round_trip_s=round_trip_s,
        creating=[
            await load_blocked(connection, s) for s in await load_sessions(connection, _CREATING)
        ],
        writers=await load_sessions(connection, "a.backend_xid is not null"),
        prepared=await load_prepared(connection),
        copiers=await load_sessions(connection, _COPIERS),
        work_mem=str(work_mem[0]) if work_mem else "",
        spooled=peek(settings),
    )


async def _look(connection: Connection, slot: str) -> Look:
    cursor = connection.cursor(row_factory=class_row(_Row))
    row = await (await cursor.execute(_LOOK, (slot,))).fetchone()
    if row is None:
        raise CheckFailed(
            f"slot {slot} was dropped just now", hint="`cdc slot list` shows those that there are"
        )
    sender = spill = None
    if row.pid is not None:
        sender = Sender(
            row.pid,
            row.application or "",
            row.client or "local",
            _lsn(row.sent),
            _lsn(row.received),
            _lsn(row.applied),
            row.replied,
            row.wait,
        )
    if row.spilled_bytes is not None:
        spill = Spill(row.spilled_transactions or 0, row.spilled_bytes)
    written = parse_lsn(row.written)
    return Look(
        monotonic(),
        written,
        _lsn(row.confirmed),
        row.holder,
        row.application or "",
        sender,
        spill,
    )


def _lsn(text: str | None) -> Lsn | None:
    return None if text is None else parse_lsn(text)


def _decided(looks: Sequence[Look]) -> bool:
    """Tell whether more looks would not say more."""
    first, last = looks[0], looks[-1]
    seconds = last.at_s - first.at_s
    if seconds > 0 and last.confirmed is not None and last.confirmed >= first.written:
        return True
    if seconds < _LOOK_S:
        return False
    sender = last.sender
    if sender is None or sender.hidden or not is_daemon(sender.application) or has_replied(looks):
        return True
    # Who decodes need not hear of the daemon.
    return seconds > SILENT_S or (sender.wait or "").lower() not in {UNREAD, *IDLE}

"""Asks the target what holds the pipeline back: a connection wakes a sleeping compute.

The daemon's sessions are looked at for a second: those that hold the locks of who writes and copies
(`cdc.target.sole`), and before that any of our name that waits for a lock. What bookkeeping says is
left out where somebody keeps it locked: nothing here waits.
"""

import asyncio
from time import monotonic

import psycopg

from cdc.assure.explain.facts import TargetFacts
from cdc.backoff import Verdict, described, judge
from cdc.postgres.activity import Blocked, Session, load_blocked, load_sessions
from cdc.postgres.session import Connection
from cdc.settings import Settings
from cdc.target.connection import connect_target
from cdc.target.copies import load_copies
from cdc.target.quarantine import count_open
from cdc.target.sole import writing_sessions

_LOOKS = 6
_INTERVAL_S = 0.2

_OURS = (
    "a.datname = current_database() and (a.pid = any(%s)"
    " or a.application_name like 'cdc%%' and a.wait_event_type = 'Lock')"
)


async def load_target(settings: Settings, application_name: str) -> TargetFacts:
    """Return what the target says, or why it says nothing."""
    asked = monotonic()
    try:
        target = await connect_target(
            settings.target.require_dsn(), application_name=application_name
        )
    except (psycopg.Error, OSError) as ex:
        refused = judge(ex) is not Verdict.RETRY
        return TargetFacts(monotonic() - asked, described(ex), refused=refused)
    async with target:
        connected_s = monotonic() - asked
        looks = []
        for _ in range(_LOOKS):
            pids = await writing_sessions(target, settings.source.slot)
            looks.append(await load_sessions(target, _OURS, pids))
            await asyncio.sleep(_INTERVAL_S)
        blocked = await _blocked(target, looks)
        await target.execute("set lock_timeout = '1s'")
        return TargetFacts(
            connected_s,
            sessions=looks,
            blocked=blocked,
            quarantined=await _quarantined(target, settings.source.slot),
            copying=await _copying(target, settings.source.slot),
        )


async def _blocked(target: Connection, looks: list[list[Session]]) -> list[Blocked]:
    """Return who waits for a lock, and not for a moment only."""
    waiting = [{s.pid for s in look if s.waits_for_lock} for look in looks]
    found = [
        await load_blocked(target, session)
        for session in looks[-1]
        if all(session.pid in pids for pids in waiting[-3:])
    ]
    return [blocked for blocked in found if blocked.blockers]


async def _quarantined(target: Connection, slot: str) -> int:
    try:
        return await count_open(target, slot)
    except psycopg.errors.LockNotAvailable:
        return 0


async def _copying(target: Connection, slot: str) -> list[str]:
    try:
        copies = await load_copies(target, slot)
    except psycopg.errors.LockNotAvailable:
        return []
    return [f"{c.table_schema}.{c.table_name}" for c in copies if not c.completed]

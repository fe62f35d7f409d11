"""Replication slots of the source: what they retain, who reads them, creating and dropping ours.

A slot is the source's promise to keep WAL until it is confirmed. Its `restart_lsn` decides how much
WAL is retained, its `confirmed_flush_lsn` from where a stream can resume. The view's columns differ
by version (manual, "pg_replication_slots"), so that newer ones are read through JSON.
"""

import logging
import secrets
from dataclasses import dataclass

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from cdc.errors import SlotBusy
from cdc.lsn import Lsn, parse_lsn
from cdc.postgres.session import Connection
from cdc.source.plugin import Options, refusal

log = logging.getLogger(__name__)

FAILOVER_VERSION = 170000

PEEK_S = 2.0


@dataclass(slots=True, frozen=True)
class SystemIdentity:
    """What IDENTIFY_SYSTEM answers."""

    system_identifier: str
    timeline: int
    lsn: Lsn
    database: str


@dataclass(slots=True)
class Slot:
    """A row of pg_replication_slots, with what its retention means. LSNs as text; bytes."""

    name: str
    plugin: str | None
    database: str | None
    active: bool
    active_pid: int | None
    consumer: str | None
    """Who streams from it: application, user, address and since when."""
    wal_status: str | None
    """reserved, extended, unreserved or lost."""
    restart_lsn: str | None
    confirmed_flush_lsn: str | None
    source_lsn: str
    """The source's current write position."""
    lag_bytes: int | None
    """WAL written and not yet confirmed; None: the slot is still being made."""
    retained_wal_bytes: int | None
    safe_wal_bytes: int | None
    """WAL that can still be written before the slot is lost; None: without limit, or lost."""
    invalidation_reason: str | None
    failover: bool

    @property
    def confirmed(self) -> Lsn | None:
        """confirmed_flush_lsn as a number."""
        return None if self.confirmed_flush_lsn is None else parse_lsn(self.confirmed_flush_lsn)


@dataclass(slots=True, frozen=True)
class CreatedSlot:
    """A slot just created: the stream begins at `consistent_point`, the snapshot shows it."""

    consistent_point: Lsn
    snapshot: str | None
    """Importable until the next command on the session that created the slot."""


_SLOTS = """
select s.slot_name::text as name, s.plugin::text as plugin, s.database::text as database,
       s.active, s.active_pid,
       case when a.pid is not null then format('%%s (user %%s, %%s, since %%s)',
         coalesce(nullif(a.application_name, ''), 'unnamed'), a.usename,
         coalesce(host(a.client_addr), 'local'), to_char(a.backend_start, 'YYYY-MM-DD HH24:MI:SS'))
       end as consumer,
       s.wal_status, s.restart_lsn::text as restart_lsn,
       s.confirmed_flush_lsn::text as confirmed_flush_lsn, w.lsn::text as source_lsn,
       case when s.confirmed_flush_lsn is not null
         then greatest(w.lsn - s.confirmed_flush_lsn, 0)::int8 end as lag_bytes,
       greatest(w.lsn - s.restart_lsn, 0)::int8 as retained_wal_bytes,
       s.safe_wal_size as safe_wal_bytes,
       to_jsonb(s) ->> 'invalidation_reason' as invalidation_reason,
       coalesce((to_jsonb(s) ->> 'failover')::bool, false) as failover
  from pg_replication_slots s left join pg_stat_activity a on a.pid = s.active_pid,
       (select case when pg_is_in_recovery() then pg_last_wal_replay_lsn()
               else pg_current_wal_lsn() end as lsn) w
 where s.slot_type = 'logical' and (%(name)s::text is null or s.slot_name = %(name)s)
 order by 1
"""


async def list_slots(connection: Connection) -> list[Slot]:
    """Return the source's logical slots, all databases'."""
    cursor = connection.cursor(row_factory=class_row(Slot))
    return await (await cursor.execute(_SLOTS, {"name": None})).fetchall()


async def load_slot(connection: Connection, name: str) -> Slot | None:
    """Return a slot, or None where there is none of that name."""
    cursor = connection.cursor(row_factory=class_row(Slot))
    return await (await cursor.execute(_SLOTS, {"name": name})).fetchone()


async def identify_system(replication: Connection) -> SystemIdentity:
    """Return who the source is. Asked on a replication session: any role may."""
    cursor = await replication.execute("IDENTIFY_SYSTEM")
    row = await cursor.fetchone()
    assert row is not None
    system_identifier, timeline, lsn, database = row
    return SystemIdentity(
        str(system_identifier), int(str(timeline)), parse_lsn(str(lsn)), str(database)
    )


async def create_slot(replication: Connection, name: str, *, plugin: str) -> CreatedSlot:
    """Create a logical slot; waits for the transactions that are running on the source.

    Where the server knows failover slots (17), it is one: it outlives a promoted standby.
    """
    failover = ", FAILOVER true" if replication.info.server_version >= FAILOVER_VERSION else ""
    return await _create(
        replication,
        sql.SQL(f"CREATE_REPLICATION_SLOT {{}} LOGICAL {{}} (SNAPSHOT 'nothing'{failover})"),
        name,
        plugin,
    )


async def create_temporary_slot(replication: Connection, *, plugin: str) -> CreatedSlot:
    """Create a slot that goes with the session, for its snapshot and the LSN that this is of."""
    return await _create(
        replication,
        sql.SQL("CREATE_REPLICATION_SLOT {} TEMPORARY LOGICAL {} (SNAPSHOT 'export')"),
        f"cdc_copy_{secrets.token_hex(8)}",
        plugin,
    )


async def _create(
    replication: Connection, statement: sql.SQL, name: str, plugin: str
) -> CreatedSlot:
    try:
        cursor = await replication.execute(
            statement.format(sql.Identifier(name), sql.Identifier(plugin))
        )
    except psycopg.Error as ex:
        refused = refusal(ex, plugin)
        if refused is None:
            raise
        raise refused from ex
    row = await cursor.fetchone()
    assert row is not None
    _, consistent_point, exported, _ = row
    return CreatedSlot(parse_lsn(str(consistent_point)), str(exported) if exported else None)


async def tell_oldest_writer(source: Connection) -> None:
    """Log for whom a slot waits: for transactions that are writing already."""
    cursor = await source.execute(
        "select pid, application_name, extract(epoch from now() - xact_start)::int"
        " from pg_stat_activity where backend_xid is not null and pid <> pg_backend_pid()"
        " order by xact_start limit 1"
    )
    row = await cursor.fetchone()
    if row is not None:
        pid, name, age_s = row
        log.info(
            "a slot is created, which waits for transactions that are writing now",
            extra={"oldest_pid": pid, "oldest_application": name, "oldest_age_s": age_s},
        )


async def drop_slot(connection: Connection, name: str) -> None:
    """Drop a slot; raises SlotBusy while somebody streams from it."""
    try:
        await connection.execute("select pg_drop_replication_slot(%s)", (name,))
    except psycopg.errors.ObjectInUse:
        raise busy(name, await load_slot(connection, name)) from None


def busy(name: str, slot: Slot | None) -> SlotBusy:
    """Return the error that says who holds a slot."""
    holder = (
        f"PID {slot.active_pid}, {slot.consumer}" if slot and slot.active else "another session"
    )
    return SlotBusy(
        f"slot {name} is in use by {holder}",
        hint="stop that consumer first, or give this daemon a slot of its own (CDC_SOURCE_SLOT)",
    )


PREFIX = "cdc"
BARRIER = b"barrier"
RESYNC = b"resync"
VERIFY = b"verify"
HEARTBEAT = b"heartbeat"
"""Prefix and contents of our logical messages: the second and the third tell a daemon to
look what is to be copied, and who verifies, the last measures how long all this takes."""


async def emit_barrier(connection: Connection, content: bytes = BARRIER) -> Lsn:
    """Write a message into the WAL and return its LSN: what was committed before lies below it.

    Transactional, so that its commit flushes the WAL: an LSN that nothing has flushed would not be
    sent, and would be waited for in vain.
    """
    cursor = await connection.execute(
        "select pg_logical_emit_message(true, %s, %s::text)::text", (PREFIX, content.decode())
    )
    row = await cursor.fetchone()
    assert row is not None
    return parse_lsn(str(row[0]))


async def holds_changes(connection: Connection, name: str, options: Options) -> bool | None:
    """Tell whether anything that is copied lies beyond a slot's confirmed position.

    Looked up by decoding without consuming; takes the slot for as long, at most `PEEK_S`. None if
    that does not suffice, if somebody else has the slot, or if publication or plugin are gone.
    """
    try:
        async with connection.transaction():
            await connection.execute(
                sql.SQL("set local statement_timeout = {}").format(int(PEEK_S * 1000))
            )
            cursor = await connection.execute(
                "select from pg_logical_slot_peek_binary_changes(%s, null, 1,"
                " variadic %s::text[]) limit 1",
                (name, [part for option in options.items() for part in option]),
            )
            return await cursor.fetchone() is not None
    except (
        psycopg.errors.QueryCanceled,
        psycopg.errors.ObjectInUse,
        psycopg.errors.UndefinedObject,
        psycopg.errors.UndefinedFile,
        psycopg.errors.InsufficientPrivilege,
    ):
        return None


async def wal_end(connection: Connection) -> Lsn:
    """Return where the source's WAL ends: what commits from now on lies behind it."""
    row = await (await connection.execute("select pg_current_wal_lsn()::text")).fetchone()
    assert row is not None
    return parse_lsn(str(row[0]))

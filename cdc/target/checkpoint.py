"""The checkpoint: the LSN up to which the target holds the source, in a row of the target itself.

It moves only inside the transaction that holds the data (`advance`), by compare-and-swap on LSN and
epoch: the one statement is the exactly-once rule and the fence against a second daemon. Its row is
bound to the slot it belongs to, by system identifier, timeline, database and slot name.
"""

from dataclasses import dataclass
from hashlib import sha256

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from cdc.errors import Fenced, PositionLost
from cdc.lsn import Lsn, format_lsn, parse_lsn
from cdc.postgres.names import literal
from cdc.postgres.session import INSTANCE, Connection
from cdc.sqlfiles import read_sql
from cdc.target.action import Execute


@dataclass(slots=True, frozen=True)
class SlotIdentity:
    """What makes a slot that one slot: another server's, or a restored one, is another."""

    slot: str
    system_identifier: str
    timeline: int
    database: str


@dataclass(slots=True, frozen=True)
class Checkpoint:
    """The row as it was read."""

    identity: SlotIdentity
    lsn: Lsn | None
    """None until its slot is there."""
    epoch: int
    transactions: int
    changes: int
    age_s: float
    """Seconds since it last moved, by the target's clock."""
    ours: bool = False
    """The epoch is of a claim by this process."""
    commit_time: str | None = None
    """When the last transaction that the target holds was committed on the source."""
    commit_age_s: float | None = None
    """Seconds since then, by the target's clock."""
    promoted_at: str | None = None
    """Since when applications write to the target; None: it is a copy."""

    @property
    def lsn_text(self) -> str | None:
        """Its LSN as PostgreSQL writes it."""
        return None if self.lsn is None else format_lsn(self.lsn)


@dataclass(slots=True)
class _Row:
    slot: str
    system_identifier: str
    timeline: int
    database: str
    lsn: str | None
    epoch: int
    transactions: int
    changes: int
    age_s: float
    claimed_by: str | None
    commit_time: str | None
    commit_age_s: float | None
    promoted_at: str | None


_COLUMNS = (
    "slot, system_identifier, timeline, database, lsn::text, epoch, transactions, changes,"
    " extract(epoch from clock_timestamp() - updated_at)::float8 as age_s,"
    " to_jsonb(checkpoint) ->> 'claimed_by' as claimed_by, commit_time::text as commit_time,"
    " extract(epoch from clock_timestamp() - commit_time)::float8 as commit_age_s,"
    " (to_jsonb(checkpoint) ->> 'promoted_at')::timestamptz::text as promoted_at"
)


_BOOKKEEPING = "target/001_add_bookkeeping.sql"


async def add_bookkeeping(connection: Connection) -> None:
    """Create the schema `cdc` on the target, or bring it up to date; safe to repeat."""
    await connection.execute(read_sql(_BOOKKEEPING))
    await connection.execute(
        sql.SQL("comment on schema cdc is {}").format(sql.Literal(_bookkeeping_version()))
    )


async def bring_up_to_date(connection: Connection) -> bool:
    """Do what another version of this program has not; return whether it knew of no copies."""
    cursor = await connection.execute(
        "select not exists (select from pg_attribute"
        " where attrelid = to_regclass('cdc.checkpoint') and attname = 'claimed_by'),"
        " obj_description(to_regnamespace('cdc'), 'pg_namespace')"
    )
    row = await cursor.fetchone()
    assert row is not None
    if row[0] or row[1] != _bookkeeping_version():
        await add_bookkeeping(connection)
    return bool(row[0])


def _bookkeeping_version() -> str:
    """Return what the schema's comment says that was made by this very file."""
    return f"Bookkeeping of cdc, {sha256(read_sql(_BOOKKEEPING)).hexdigest()[:16]}"


async def load_checkpoint(connection: Connection, slot: str) -> Checkpoint | None:
    """Return the slot's checkpoint; None where there is none, or no bookkeeping at all."""
    cursor = connection.cursor(row_factory=class_row(_Row))
    try:
        await cursor.execute(f"select {_COLUMNS} from cdc.checkpoint where slot = %s", (slot,))
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return None
    row = await cursor.fetchone()
    return None if row is None else _checkpoint(row)


async def begin_slot(connection: Connection, identity: SlotIdentity) -> None:
    """Note that a slot of ours is about to be made; its LSN comes when it is there."""
    await connection.execute(
        "insert into cdc.checkpoint (slot, system_identifier, timeline, database)"
        " values (%s, %s, %s, %s) on conflict (slot) do update"
        " set system_identifier = excluded.system_identifier, timeline = excluded.timeline,"
        "     database = excluded.database, updated_at = clock_timestamp()"
        " where checkpoint.lsn is null",
        (identity.slot, identity.system_identifier, identity.timeline, identity.database),
    )


async def begin_stream(connection: Connection, slot: str, lsn: Lsn) -> None:
    """Set the checkpoint to where the slot's stream begins."""
    cursor = await connection.execute(
        "update cdc.checkpoint set lsn = %s::pg_lsn, updated_at = clock_timestamp()"
        " where slot = %s and lsn is null",
        (format_lsn(lsn), slot),
    )
    if cursor.rowcount != 1:
        raise fenced(slot)


async def renew_checkpoint(connection: Connection, identity: SlotIdentity, lsn: Lsn) -> None:
    """Set the checkpoint to where a new slot begins; whoever held the one before is fenced off."""
    await connection.execute(
        "update cdc.checkpoint set lsn = %s::pg_lsn, epoch = epoch + 1, system_identifier = %s,"
        " timeline = %s, database = %s, updated_at = clock_timestamp() where slot = %s",
        (
            format_lsn(lsn),
            identity.system_identifier,
            identity.timeline,
            identity.database,
            identity.slot,
        ),
    )


async def claim(connection: Connection, slot: str, epoch: int | None) -> Checkpoint:
    """Raise the checkpoint's epoch, so that no session before this one can write any more.

    Waits for a COMMIT of ours that is still under way, and then returns what it left. `epoch` is
    the one that we hold, None for a daemon that starts; raises as `require_claim` does.
    """
    cursor = connection.cursor(row_factory=class_row(_Row))
    await cursor.execute(
        "update cdc.checkpoint set epoch = epoch + 1, claimed_by = %(us)s || (epoch + 1)"
        " where slot = %(slot)s and lsn is not null and promoted_at is null"
        " and (%(epoch)s::int8 is null or epoch >= %(epoch)s and claimed_by = %(us)s || epoch)"
        f" returning {_COLUMNS}",
        {"us": f"{INSTANCE} ", "slot": slot, "epoch": epoch},
    )
    row = await cursor.fetchone()
    if row is None:
        if epoch is not None:
            await require_claim(connection, slot, epoch)
        require_copy(await load_checkpoint(connection, slot))
        raise fenced(slot)
    return _checkpoint(row)


def require_copy(checkpoint: Checkpoint | None) -> None:
    """Raise Fenced if the target was promoted: it is no copy any more."""
    if checkpoint is not None and checkpoint.promoted_at is not None:
        raise Fenced(
            f"the target was promoted at {checkpoint.promoted_at}: applications write there, and"
            f" nothing of slot {checkpoint.identity.slot} is written to it any more",
            hint="stop this daemon for good (`systemctl disable --now cdc`); the way back is in"
            " docs/operating.md, “Failover”",
        )


async def keep_copy(connection: Connection, slot: str) -> None:
    """Have the target stay a copy until the transaction ends; raise Fenced if it is none.

    The last step of a transaction: a batch that was written comes here with its tables locked.
    """
    await connection.execute("select from cdc.checkpoint where slot = %s for share", (slot,))
    require_copy(await load_checkpoint(connection, slot))


async def require_claim(connection: Connection, slot: str, epoch: int) -> None:
    """Raise unless the newest claim is ours, answered or not; waits for nobody.

    Fenced if another daemon's is newer, PositionLost if the target was restored meanwhile.
    """
    found = await load_checkpoint(connection, slot)
    if found is None or found.epoch < epoch:
        at = "no checkpoint" if found is None else f"an older checkpoint, {found.lsn_text}"
        raise PositionLost(
            f"the target has {at} for slot {slot}: it was restored to an earlier state",
            hint="changes may be missing on the target: make a new copy (README, “When the slot is"
            " lost”)",
        )
    require_copy(found)
    if not found.ours:
        raise fenced(slot)


def advance(
    checkpoint: Checkpoint, to: Lsn, *, commit_time: int | None, transactions: int, changes: int
) -> Execute:
    """Return the statement that moves the checkpoint, or aborts the transaction it stands in.

    `commit_time` is in µs since 2000-01-01, as on the wire; None: of no commit.
    """
    assert checkpoint.lsn is not None
    assert to > checkpoint.lsn
    parameters = (
        checkpoint.identity.slot,
        str(checkpoint.epoch),
        format_lsn(checkpoint.lsn),
        format_lsn(to),
        None if commit_time is None else f"{commit_time} microseconds",
        str(transactions),
        str(changes),
    )
    text = (
        "select cdc.advance({}, {}::int8, {}::pg_lsn, {}::pg_lsn,"
        " timestamptz '2000-01-01 00:00+00' + {}::interval, {}::int8, {}::int8)"
    )
    inlined = text.format(*("null" if value is None else literal(value) for value in parameters))
    return Execute(
        text.format(*(f"${n}" for n in range(1, 8))).encode(),
        tuple(None if parameter is None else parameter.encode() for parameter in parameters),
        inlined=inlined.encode(),
    )


def _checkpoint(row: _Row) -> Checkpoint:
    return Checkpoint(
        identity=SlotIdentity(row.slot, row.system_identifier, row.timeline, row.database),
        lsn=None if row.lsn is None else parse_lsn(row.lsn),
        epoch=row.epoch,
        transactions=row.transactions,
        changes=row.changes,
        age_s=row.age_s,
        ours=row.claimed_by == f"{INSTANCE} {row.epoch}",
        commit_time=row.commit_time,
        commit_age_s=row.commit_age_s,
        promoted_at=row.promoted_at,
    )


FENCED = "CD001"
"""SQLSTATE of cdc.advance: the checkpoint is not where we left it."""


def fenced(slot: str) -> Fenced:
    """Return the error of a daemon that another one has replaced."""
    return Fenced(
        f"the checkpoint of slot {slot} was moved by another daemon",
        hint="see who runs: `cdc slot list` names the slot's consumer; stop one of the two",
    )

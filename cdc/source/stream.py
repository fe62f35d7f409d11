"""The replication stream of one slot, by way of psycopg's `pgconn`.

psycopg has no API for streaming replication; its libpq wrapper is enough. Traps, each of them seen:

- Never wait through `AsyncConnection.wait`: a task cancelled inside it sends a CancelRequest, and
  the walsender ends ("canceling statement due to user request"). Cancelled inside `wait_async`, it
  stays usable, so that the last status update can still be sent.
- Never without an interval: `wait_async` then polls, and costs a core.
- Never `get_copy_data(0)`: it holds the GIL while it blocks.
- An error at the end of the stream has its SQLSTATE in the result, not in what is raised.
- Some changes are left out with a mere warning: by wal2json an UPDATE or DELETE of a table without
  a replica identity, by pgoutput from 18 on what was changed while the publication did not exist
  (before, with an error). The warning stands in the stream before what comes next, so the stream
  ends at it, and nothing beyond is received or confirmed.

`receive` is for one task; `send_status` has no await inside and may be called from another.
"""

import os
import re
import socket
import time

import psycopg
from psycopg import pq, sql
from psycopg.abc import PQGen
from psycopg.errors import Diagnostic
from psycopg.waiting import Wait, wait_async

from cdc.errors import CheckFailed, NeedsOperator, PositionLost, Unavailable
from cdc.lsn import Lsn, format_lsn
from cdc.postgres.drain import drain
from cdc.postgres.session import connect_replication
from cdc.postgres.watch import WatchedConnection
from cdc.settings import SourceSettings
from cdc.source.plugin import Options, refusal, stream_options
from cdc.source.slot import SystemIdentity, busy, identify_system
from cdc.wire.replication import encode_standby_status_update

# The walsender writes a packet a message. A reader that is woken by each costs itself 2 µs and the
# walsender 3 µs more a message; so a stream that brought so many frames at once is let gather, for
# four milliseconds at most: a tenth more than with one (`hot`, of the benches).
_BUSY_FRAMES = 100
_BUSY_BYTES = 128 << 10
_BUSY_WAIT_S = 0.004

# A wait looks around by itself so often: a server that was cut off is noticed at once anyway.
WAIT_S = 1.0

# PostgreSQL's epoch, 2000-01-01, in µs of Unix time.
_EPOCH_US = 946_684_800_000_000

# wal2json: "no tuple identifier for UPDATE in table …", "no old tuple data for DELETE in table …".
_NOT_SENT = re.compile("no (old )?tuple (data|identifier) for ")


def clock_us() -> int:
    """Return the time as the protocol has it: µs since 2000-01-01."""
    return time.time_ns() // 1000 - _EPOCH_US


def _literal(value: str) -> sql.SQL:
    """Quote a text for a replication command: their grammar knows no E'…'."""
    return sql.SQL("'" + value.replace("'", "''") + "'")


class ReplicationStream:
    """A replication session, and after `start` the stream of a slot."""

    def __init__(self, connection: WatchedConnection, system: SystemIdentity) -> None:
        self.connection = connection
        """Takes replication commands until `start`."""
        self._pgconn = connection.pgconn
        self._lost: NeedsOperator | None = None
        self._socket = socket.socket(fileno=os.dup(self._pgconn.socket))
        self._busy = False
        connection.add_notice_handler(self._notice)
        self.system = system

    @classmethod
    async def connect(cls, dsn: str) -> "ReplicationStream":
        """Open a replication session and ask who the server is. Raises psycopg.OperationalError."""
        connection = await connect_replication(dsn)
        try:
            return cls(connection, await identify_system(connection))
        except BaseException:
            await connection.close()
            raise

    @property
    def patience_s(self) -> float:
        """Seconds of silence after which the server is asked after, if we wait for it."""
        return self.connection.watch.patience_s if self.connection.watch is not None else 0.0

    async def sender_timeout_s(self) -> float:
        """Return after how many seconds of silence the walsender gives up; 0: never."""
        cursor = await self.connection.execute(
            "select setting::float8 / 1000 from pg_settings where name = 'wal_sender_timeout'"
        )
        row = await cursor.fetchone()
        return float(str(row[0])) if row else 0.0

    async def start(self, source: SourceSettings, lsn: Lsn) -> None:
        """Begin to stream what was committed after `lsn`.

        The server starts no earlier than the slot's confirmed_flush_lsn, without an error: whether
        that leaves a gap is to be found out before (`sync.position`).
        """
        alternatives = list(stream_options(source))
        for options in alternatives:
            try:
                await self._start(source, lsn, options)
            except psycopg.errors.InvalidParameterValue:
                if options is alternatives[-1]:
                    raise
            else:
                break
        self._pgconn.nonblocking = 1

    async def _start(self, source: SourceSettings, lsn: Lsn, options: Options) -> None:
        listed = sql.SQL(", ").join(
            sql.SQL("{} {}").format(sql.Identifier(name), _literal(value))
            for name, value in options.items()
        )
        command = sql.SQL("START_REPLICATION SLOT {} LOGICAL {} ({})").format(
            sql.Identifier(source.slot), sql.SQL(format_lsn(lsn)), listed
        )
        try:
            await self.connection.execute(command)
        except psycopg.errors.ObjectInUse as ex:
            raise busy(source.slot, None) from ex
        except psycopg.Error as ex:
            refused = refusal(ex, source.plugin)
            if refused is None:
                raise
            raise refused from ex

    async def receive(self) -> list[bytes]:
        """Return the frames that are there, at least one; wait for it if there is none."""
        watch = self.connection.watch
        assert watch is not None
        frames: list[bytes] = []
        while not frames:
            wait_s = _BUSY_WAIT_S if self._busy else WAIT_S
            watch.begin()
            try:
                frames = await wait_async(watch.noting(self._frames()), self._pgconn.socket, wait_s)
            finally:
                watch.end()
            self._pace(len(frames))
        return frames

    def _pace(self, frames: int) -> None:
        """Let the stream gather if it is busy, or be read at once."""
        if self._busy != (frames >= _BUSY_FRAMES):
            self._busy = not self._busy
            # For sockets of TCP; any other is woken by each packet all the same.
            mark = _BUSY_BYTES if self._busy else 1
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, mark)

    def _frames(self) -> PQGen[list[bytes]]:
        pgconn = self._pgconn
        frames: list[bytes] = []
        received = 0
        dry = waited = False
        while True:
            before = received
            try:
                size, received = drain(pgconn, frames, received)
            except psycopg.OperationalError as ex:
                raise self._end() from ex
            if self._lost is not None:
                raise self._lost
            if size > 0:
                return frames
            if size < 0:
                raise self._end()
            if not dry or received > before:
                # The walsender writes a packet a message: look once more before waiting.
                dry = True
            elif frames or waited:
                return frames
            else:
                yield Wait.R
                waited = self._busy
            pgconn.consume_input()

    def _notice(self, diagnostic: Diagnostic) -> None:
        if diagnostic.severity_nonlocalized != "WARNING":
            return
        said = diagnostic.message_primary or ""
        if diagnostic.sqlstate == "55000":
            self._lost = PositionLost(
                f"the source skips changes: {said}",
                hint="the publication was dropped, or dropped and made again, while there were"
                " changes: make a new copy (README, “When the slot is lost”)",
            )
        elif diagnostic.sqlstate == "01000" and _NOT_SENT.match(said):
            self._lost = CheckFailed(
                f"the source does not send a change: {said}",
                hint="give the table a primary key or REPLICA IDENTITY FULL (`cdc check` shows"
                " how), then make a new copy (README, “When the slot is lost”)",
            )

    def _end(self) -> Exception:
        """Return why the stream ended."""
        result = self._pgconn.get_result()
        if result is not None and result.status == pq.ExecStatus.FATAL_ERROR:
            return psycopg.errors.error_from_result(result)
        return Unavailable("the source ended the stream", hint="it restarts, or was told to stop")

    def send_status(
        self, *, received: Lsn, flushed: Lsn, applied: Lsn, reply_requested: bool = False
    ) -> None:
        """Tell the server how far we are; `flushed` is what it may forget.

        What the socket does not take now leaves with the next call.
        """
        update = encode_standby_status_update(
            received, flushed, applied, clock_us(), reply_requested=reply_requested
        )
        self._pgconn.put_copy_data(update)
        self._pgconn.flush()

    async def finish(self) -> None:
        """End the stream in order, so that the last status update is surely taken in."""
        self._pace(0)
        self._pgconn.put_copy_end()
        await wait_async(self._drain(), self._pgconn.socket, WAIT_S)

    def _drain(self) -> PQGen[None]:
        pgconn = self._pgconn
        while pgconn.flush():
            yield Wait.W
        while (size := pgconn.get_copy_data(1)[0]) >= 0:
            # What has arrived already makes the socket ready no more.
            if size == 0:
                yield Wait.R
                pgconn.consume_input()

    async def close(self) -> None:
        """Close the session at once."""
        self._socket.close()
        await self.connection.close()

"""Notices a server that is gone without a word while we wait for its answer.

TCP notices a peer whose kernel is gone. It notices nothing where something on the way goes on to
acknowledge what we send and forwards none of it: a proxy or a pooler that hangs, a compute that was
moved. So while somebody waits at the socket of a session and no byte has moved for the DSN's
`keepalives_idle` seconds, a second, short session asks pg_stat_activity about the first:

    it works, or waits for a lock            we wait on, and ask again later: it is a sign of life
    it waits for us, or is gone              what it answered is lost: cut
    there is no second session either        server or network are gone: cut
    the server refuses a second session      it lives, and we cannot know more: we wait on

A slow line is not a silent one: each byte that moves begins the time anew. A stall is noticed
within `keepalives_idle + connect_timeout + GRACE_S`: 32 s by default. To cut means to shut the
socket down: whoever waits there gets a psycopg.OperationalError, which `backoff` calls RETRY.
Nobody is asked while nobody waits: an idle session may be as silent as it likes.

A wait for a lock is a sign of life too, and said in the log: it ends when whoever has the lock is
done, and no sooner if we began anew. Not so where a session of ours has it: then it may be that we
wait for ourselves, and nothing but a new beginning ends that.
"""

import asyncio
import contextlib
import logging
import os
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo, timeout_from_conninfo
from psycopg.pq import TransactionStatus
from psycopg.rows import class_row
from psycopg.waiting import wait_async

from cdc.awake import Wakefulness

log = logging.getLogger(__name__)

# An answer may be on its way when we ask: it is given this long to arrive.
GRACE_S = 2.0

# So often a wait looks around by itself; as psycopg does.
_INTERVAL_S = 0.1

# Our sessions have a name of ours, or all the name that the DSN gives.
_QUESTION = """
select case when a.state like 'idle%%' or a.wait_event_type in ('Client', 'Activity')
            then 'its backend waits for us' end as lost,
       not exists (select from pg_stat_activity o where o.pid = any(b.pids)
           and (o.application_name like 'cdc%%' or o.application_name = a.application_name))
         as alive,
       b.pids as blockers
  from pg_stat_activity a, pg_blocking_pids(a.pid) b(pids)
 where a.pid = %s and a.backend_start = %s::timestamptz
"""

_REFUSED = re.compile(r"\bFATAL\b")

# A server that we do not wait for any more may take so long to take a cancellation.
_CANCEL_S = 1.0

_T = TypeVar("_T")


@dataclass(slots=True, frozen=True)
class Backend:
    """A process of the server, told from another that is given its PID later."""

    pid: int
    start: str


@dataclass(slots=True, frozen=True)
class _Found:
    """What was found out about a backend."""

    lost: str | None = None
    """Why no answer will come; None: one may."""
    alive: bool = False
    """It works, or waits for a lock that somebody else has."""
    blockers: Sequence[int] = ()
    """The PIDs of those whose locks it waits for; 0: a prepared transaction."""


class WatchedConnection(AsyncConnection[tuple[object, ...]]):
    """A connection of which every wait for the server is watched."""

    watch: "Watch | None" = None

    async def wait(
        self, gen: PQGen[_T], interval: float = _INTERVAL_S, timeout: float | None = None
    ) -> _T:
        """Wait as psycopg does, for as long as the server is there.

        A wait that is cancelled ends the session.
        """
        watch = self.watch
        if watch is None:
            return await super().wait(gen, interval, timeout)
        watch.begin()
        try:
            return await wait_async(watch.noting(gen), self.pgconn.socket, interval, timeout)
        except asyncio.CancelledError:
            await self._give_up()
            raise
        finally:
            watch.end()

    async def _give_up(self) -> None:
        """End the session whose answer nobody waits for any more; ask the server to stop.

        psycopg would wait up to ten seconds to keep it, where the server is silent.
        """
        if self.pgconn.transaction_status == TransactionStatus.ACTIVE:  # an int, of libpq's
            with contextlib.suppress(psycopg.Error):
                await self.cancel_safe(timeout=_CANCEL_S)
        self.pgconn.finish()


class Watch:
    """Who looks after one connection."""

    def __init__(
        self,
        connection: WatchedConnection,
        conninfo: str,
        backend: Backend,
        awake: Wakefulness | None,
    ) -> None:
        given = conninfo_to_dict(conninfo)
        self._awake = awake
        self._connection = connection
        self._backend = backend
        self._connect_timeout_s = timeout_from_conninfo(given)
        self._conninfo = make_conninfo(conninfo, application_name="cdc watch")
        self.patience_s = float(given.get("keepalives_idle") or 0)
        """Seconds of silence before anybody is asked; 0: nobody ever is."""
        self._moved = monotonic()
        self._waiting = self._told = False
        self._timer: asyncio.TimerHandle | None = None
        self._question: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Somebody waits at the socket from now on."""
        self._moved = monotonic()
        self._waiting, self._told = True, False
        if self._awake is not None:
            self._awake.begin(self._moved)
        if self._timer is None and self.patience_s > 0:
            self._look_in(self.patience_s)

    def end(self) -> None:
        """Nobody waits any more."""
        self._waiting = False
        if self._awake is not None:
            self._awake.end(monotonic())

    def noting(self, gen: PQGen[_T]) -> PQGen[_T]:
        """Yield what `gen` yields, and note each time that the socket was ready."""
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready:
                    self._moved = monotonic()
                    if self._awake is not None:
                        self._awake.note(self._moved)
                wanted = gen.send(ready)
        except StopIteration as ex:
            result: _T = ex.value
            return result

    def _look_in(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._waiting:
            return
        rest = self._moved + self.patience_s - monotonic()
        if rest > 0:
            self._look_in(rest)
        else:
            self._question = asyncio.create_task(self._ask_and_cut())

    async def _ask_and_cut(self) -> None:
        silent_since = self._moved
        found = await self._ask()
        if found.lost is not None:
            await asyncio.sleep(GRACE_S)
            if self._waiting and self._moved == silent_since:
                log.warning(
                    "no answer: cutting the connection",
                    extra={
                        "server": self._connection.info.host,
                        "database": self._connection.info.dbname,
                        "pid": self._backend.pid,
                        "silent_s": round(monotonic() - silent_since, 1),
                        "found": found.lost,
                    },
                )
                cut(self._connection)
                return
        elif self._waiting:
            self._note(found)
        if self._waiting and self._timer is None:
            self._look_in(self.patience_s)

    def _note(self, found: _Found) -> None:
        """Take in that an answer may come yet."""
        if found.alive and self._awake is not None:
            self._awake.note(monotonic())
        if found.blockers and not self._told:
            self._told = True
            log.warning(
                "waiting for a lock that others have",
                extra={
                    "server": self._connection.info.host,
                    "database": self._connection.info.dbname,
                    "pid": self._backend.pid,
                    "blocked_by": list(found.blockers),
                    "hint": "`cdc explain lag` says who they are, and what ends them",
                },
            )

    async def _ask(self) -> _Found:
        """Find out whether an answer may come."""
        try:
            probe = await AsyncConnection.connect(self._conninfo, autocommit=True)
        except psycopg.OperationalError as ex:
            return _Found(None if _REFUSED.search(str(ex)) else "the server cannot be reached")
        limit = asyncio.get_running_loop().call_later(self._connect_timeout_s, cut, probe)
        try:
            cursor = probe.cursor(row_factory=class_row(_Found))
            await cursor.execute(_QUESTION, (self._backend.pid, self._backend.start))
            return await cursor.fetchone() or _Found("its backend is gone")
        except psycopg.OperationalError:
            return _Found("the server does not answer")
        except psycopg.Error:
            return _Found()
        finally:
            limit.cancel()
            await probe.close()


def cut(connection: AsyncConnection[tuple[object, ...]]) -> None:
    """End a connection under whoever waits at it; its descriptor stays theirs to close."""
    with (
        contextlib.suppress(OSError, psycopg.OperationalError),
        socket.socket(fileno=os.dup(connection.pgconn.socket)) as ours,
    ):
        ours.shutdown(socket.SHUT_RDWR)

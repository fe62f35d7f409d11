"""Asks the running daemon to let the stream stand at one LSN, and tells it what came of that.

What is asked, and how it is answered: `cdc.target.verification`. The advisory lock on the source
says that somebody is there, and goes with this process however that ends.
"""

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TypeAlias

import psycopg

from cdc.errors import CheckFailed, Unavailable
from cdc.postgres.advisory import holders, own_pid, try_lock
from cdc.postgres.session import Connection
from cdc.source.slot import VERIFY, emit_barrier, load_slot
from cdc.target.verification import Offer, answer, ask, lock_of

# A daemon looks every two seconds whether somebody asks.
HEARD_S = 30.0

# A daemon that connects anew is back before that.
RECONNECT_S = 10.0

_POLL_S = 0.1
_TELL_S = 2.0

Tell: TypeAlias = Callable[[str], None]
"""Called with what is waited for, now and then."""


class Appointment:
    """One verification, from the question to the daemon's answer."""

    def __init__(self, source: Connection, target: Connection, slot: str, tell: Tell) -> None:
        self._source = source
        self._target = target
        self._slot = slot
        self._tell = tell

    async def ask(self, only: Sequence[str] | None) -> int:
        """Ask for a view of both sides, of some tables or all; return the verification's number.

        Raises Unavailable where nobody streams, or somebody else verifies.
        """
        if not await self._streams():
            raise self._nobody_streams()
        if not await try_lock(self._source, lock_of(self._slot)):
            pids = ", ".join(map(str, await holders(self._source, lock_of(self._slot))))
            raise Unavailable(
                f"another `cdc verify` is at it: PID {pids} of the source",
                hint="try again when it is through",
            )
        try:
            number = await ask(self._target, self._slot, await own_pid(self._source), only)
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as ex:
            raise CheckFailed(
                "the target has no bookkeeping of this version",
                hint="the daemon makes it: start `cdc run` of this version",
            ) from ex
        # It looks by itself now and then: this only tells it to look at once.
        await emit_barrier(self._source, VERIFY)
        return number

    async def wait(self, number: int) -> Offer:
        """Return what the daemon offers; raises Unavailable where it does not answer, or cannot."""
        since = told = streamed = monotonic()
        while True:
            answered = await answer(self._target, number)
            if answered.problem is not None:
                raise Unavailable(
                    f"the daemon could not let both sides be seen: {answered.problem}",
                    hint="its log says more; then run `cdc verify` again",
                )
            if answered.offer is not None:
                return answered.offer
            if not answered.heard and monotonic() - since > HEARD_S:
                raise Unavailable(
                    "the daemon does not answer",
                    hint="it may be of an older version, or queue changes for a target that was"
                    " away: `cdc status` shows it",
                )
            if monotonic() - told > _TELL_S:
                told = monotonic()
                if await self._streams():
                    streamed = told
                elif told - streamed > RECONNECT_S:
                    raise self._nobody_streams()
                await self._tell_why(heard=answered.heard)
            await asyncio.sleep(_POLL_S)

    async def _streams(self) -> bool:
        slot = await load_slot(self._source, self._slot)
        return slot is not None and slot.active

    def _nobody_streams(self) -> Unavailable:
        return Unavailable(
            f"nobody streams from slot {self._slot}",
            hint="start `cdc run`: it lets the stream stand still where both sides are seen",
        )

    async def _tell_why(self, *, heard: bool) -> None:
        if not heard:
            self._tell("waiting for the daemon to take notice")
            return
        cursor = await self._source.execute(
            "select pid, extract(epoch from clock_timestamp() - xact_start)::int"
            " from pg_stat_activity where backend_xid is not null order by xact_start limit 1"
        )
        oldest = await cursor.fetchone()
        if oldest is not None and oldest[1] is not None and int(str(oldest[1])) > _TELL_S:
            self._tell(
                f"waiting for transactions of the source to end: that of PID {oldest[0]} has been"
                f" open for {oldest[1]} s"
            )
        else:
            self._tell("waiting for the stream to come to where both sides are compared")

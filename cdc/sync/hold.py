"""A place in the stream at which it stands still, so that both sides can be seen just there.

    who asks for it                            pipeline
    take           nobody else holds it
    at(bound)      transactions from bound on wait
                                               all before it are applied: `reached`
    at(later)      the bound was for now only
    release        the stream goes on

The pipeline reads the bound at each Begin, and says what it has begun already: a bound that lies
before that comes too late.
"""

import asyncio

from cdc.lsn import INVALID, Lsn


class Hold:
    """The bound, if there is one, and whether the stream stands at it."""

    def __init__(self) -> None:
        self.bound: Lsn | None = None
        self.begun = INVALID
        """LSN of the commit record of the newest transaction that was let through."""
        self.exact = False
        """The bound is the snapshot's; else it only keeps transactions back until that is known."""
        self._reached = asyncio.Event()
        self._moved = asyncio.Event()
        self._taken = asyncio.Lock()

    async def take(self) -> None:
        """Wait until nobody else holds the stream, or will; `release` gives it to the next one."""
        await self._taken.acquire()

    def at(self, bound: Lsn, *, exact: bool) -> bool:
        """Let transactions that commit from `bound` on wait; False if one was let through."""
        if self.begun >= bound:
            return False
        self._move(bound)
        self.exact = exact
        return True

    def release(self) -> None:
        """Let the stream go on."""
        self._move(None)
        self._taken.release()

    def _move(self, bound: Lsn | None) -> None:
        self.bound = bound
        self.exact = False
        self._reached.clear()
        self._moved.set()

    def lets_through(self, commit: Lsn) -> bool:
        """Tell whether a transaction may begin whose commit record is at `commit`; note it so."""
        if self.bound is not None and commit >= self.bound:
            return False
        self.begun = max(self.begun, commit)
        return True

    async def reached(self) -> None:
        """Wait until all before the bound is on the target, and nothing behind it."""
        await self._reached.wait()

    async def stand(self) -> None:
        """Stand at the bound until it is moved."""
        self._moved.clear()
        self._reached.set()
        await self._moved.wait()

"""When batches may go to the target: at any time, or in bursts with a rest between them.

    rest     what comes is gathered, up to the limits of a batch; then the source's WAL keeps it
    burst    batches go one after the other, until the target has what there was when it began

So a Neon that is billed by the second sleeps between two bursts: the session ends with the burst,
and nothing touches the target before the next, unless a table is copied or the end was asked for.
"""

import asyncio
from collections.abc import Awaitable, Callable

from cdc.lsn import Lsn
from cdc.progress import Progress

# A session that is not used for so long ends: in a burst it always is.
QUIET_S = 1.0
_LOOK_S = 0.05


class Bursts:
    """The rest and the bursts of one pipeline."""

    def __init__(self, interval_s: float, wal_end: Callable[[], Awaitable[Lsn]] | None) -> None:
        """Rest for `interval_s` between bursts; 0: never. `wal_end` asks the source."""
        self._interval_s = interval_s
        self._wal_end = wal_end
        self._open = asyncio.Event()
        if not interval_s:
            self._open.set()

    @property
    def resting(self) -> bool:
        """Batches have to wait."""
        return not self._open.is_set()

    async def wait(self) -> None:
        """Wait for the next burst."""
        await self._open.wait()

    def begin(self) -> None:
        """Let batches go now; the rest comes when there is none."""
        self._open.set()

    async def run(self, progress: Progress, *, offer: Callable[[], None]) -> None:
        """Open and close, until cancelled; `offer` hands over what was gathered."""
        if not self._interval_s or self._wal_end is None:
            return
        while True:
            try:
                async with asyncio.timeout(self._interval_s):
                    await self._open.wait()
            except TimeoutError:
                self._open.set()
            end = await self._wal_end()
            offer()
            while progress.applied < end and (  # noqa: ASYNC110
                progress.received < end or progress.pending
            ):
                await asyncio.sleep(_LOOK_S)
            self._open.clear()

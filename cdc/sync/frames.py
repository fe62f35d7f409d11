"""Where a pipeline gets its frames from: the source's slot, or the spool, which is like one."""

from typing import Protocol

from cdc.lsn import Lsn


class Frames(Protocol):
    """Frames in commit order, and whom to tell how far we are."""

    async def receive(self) -> list[bytes]:
        """Return the frames that are there, at least one; wait for it if there is none."""
        ...

    def send_status(
        self, *, received: Lsn, flushed: Lsn, applied: Lsn, reply_requested: bool = False
    ) -> None:
        """Tell how far we are; `flushed` is what may be forgotten."""
        ...

    async def finish(self) -> None:
        """End in order, so that the last status is surely taken in."""
        ...

"""The event loop of a process that is told to end, and ends: nobody waits for a resolver.

asyncio looks names up in the threads of a pool, and at its end waits for all of them. Where DNS
does not answer, a look-up takes up to 40 s, and nothing can cut it short. So here each one has a
thread of its own, which the process leaves behind. All else that is given to threads (a file that
is being written) is waited for as ever.
"""

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from functools import partial
from typing import TypeAlias, TypeVar

_T = TypeVar("_T")

_Address: TypeAlias = tuple[
    socket.AddressFamily,
    socket.SocketKind,
    int,
    str,
    tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes],
]


class Loop(asyncio.SelectorEventLoop):
    """asyncio's, but for how it looks names up."""

    async def getaddrinfo(  # type: ignore[override]  # of each family its own addresses, says typeshed
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002  # asyncio's name for it
        proto: int = 0,
        flags: int = 0,
    ) -> list[_Address]:
        """Look a name up, as socket.getaddrinfo does."""
        found = Future[list[_Address]]()
        look_up = partial(socket.getaddrinfo, host, port, family, type, proto, flags)
        threading.Thread(target=_answer, args=(found, look_up), daemon=True).start()
        return await asyncio.wrap_future(found, loop=self)


def _answer(found: Future[list[_Address]], look_up: Callable[[], list[_Address]]) -> None:
    found.set_running_or_notify_cancel()
    try:
        addresses = look_up()
    except Exception as ex:  # noqa: BLE001  # whoever waits for the answer has it
        found.set_exception(ex)
    else:
        found.set_result(addresses)


def run(main: Coroutine[None, None, _T]) -> _T:
    """Run to the end, as asyncio.run does."""
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(main)

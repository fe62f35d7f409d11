"""One thread for one file: what is asked of it is done in the order in which it was asked."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class OneThread:
    """Calls what blocks, so that the loop does not.

    A task that is cancelled while it waits leaves its call to finish; the next ones wait for it.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1)

    async def run(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call and return what it returns."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, partial(call, *args, **kwargs))

    def close(self) -> None:
        """Wait for what is under way."""
        self._executor.shutdown(wait=True)

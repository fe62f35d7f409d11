"""Task groups of which one error comes out: the one that ended it."""

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

_T = TypeVar("_T")


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the exception that counts: the first one that is not the end of a task."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            return first_error(error)
        if not isinstance(error, asyncio.CancelledError):
            return error
    return group


async def both(one: Coroutine[None, None, _T], other: Coroutine[None, None, _T]) -> tuple[_T, _T]:
    """Run two at once and return what they return; where one fails, the other is cut off."""
    try:
        async with asyncio.TaskGroup() as tasks:
            first, second = tasks.create_task(one), tasks.create_task(other)
    except BaseExceptionGroup as group:
        raise first_error(group) from None
    return first.result(), second.result()

"""What comes out of a task group: the one error that ended it."""

import asyncio


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the exception that counts: the first one that is not the end of a task."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            return first_error(error)
        if not isinstance(error, asyncio.CancelledError):
            return error
    return group

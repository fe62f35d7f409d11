"""`python -m tests.faults.killed_at POINT -- run …`: the command cdc, killed at a named point.

The process sends itself a SIGKILL before or after the call that `kill_points` has for the point,
and says so just before. One that never comes there goes on as cdc does.
"""

import asyncio
import importlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from functools import reduce
from itertools import count
from typing import cast

from cdc.cli import main
from tests.faults.kill_points import POINTS, Point


def farewell(point: Point) -> str:
    """Return the last line of a process that dies at a point."""
    return f"killed {point.name}\n"


def arm(point: Point) -> None:
    """Have this process die at a point."""
    module, _, path = point.call.partition(":")
    *owners, name = path.split(".")
    owner = reduce(getattr, owners, cast("object", importlib.import_module(module)))
    setattr(owner, name, _deadly(getattr(owner, name), point))


def _deadly(original: Callable[..., object], point: Point) -> Callable[..., object]:
    calls = count(1)

    def die(when: str, number: int) -> None:
        if when == point.when and number == point.nth:
            os.write(sys.stderr.fileno(), farewell(point).encode())
            os.kill(os.getpid(), signal.SIGKILL)

    def call(*args: object, **named: object) -> object:
        number = next(calls) if point.which(*args, **named) else 0
        die("before", number)
        result = original(*args, **named)
        die("after", number)
        return result

    async def call_async(*args: object, **named: object) -> object:
        number = next(calls) if point.which(*args, **named) else 0
        die("before", number)
        result = await cast("Awaitable[object]", original(*args, **named))
        die("after", number)
        return result

    return call_async if asyncio.iscoroutinefunction(original) else call


if __name__ == "__main__":
    named, separator, *command = sys.argv[1:]
    assert separator == "--", __doc__
    arm(POINTS[named])
    sys.argv = ["cdc", *command]
    main()

"""`python -m tests.faults.killed_at POINT -- run …`: the command cdc, killed at a named point.

The process sends itself a SIGKILL before or after the call that `kill_points` has for the point,
and says so just before. One that never comes there goes on as cdc does.
"""

import asyncio
import importlib
import inspect
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Generator
from functools import reduce
from itertools import count
from typing import cast

from cdc.cli import main
from cdc.target import pipelined
from tests.faults.kill_points import POINTS, Point


def farewell(point: Point) -> str:
    """Return the last line of a process that dies at a point."""
    return f"killed {point.name}\n"


def arm(point: Point) -> None:
    """Have this process die at a point."""
    module, _, path = point.call.partition(":")
    *owners, name = path.split(".")
    owner = reduce(getattr, owners, cast("object", importlib.import_module(module)))
    original = getattr(owner, name)
    deadly = _deadly_generator if inspect.isgeneratorfunction(original) else _deadly
    setattr(owner, name, deadly(original, point))
    if point.one_by_one:
        pipelined._TOGETHER = 1  # noqa: SLF001  # what a slow network may do


def _deadly(original: Callable[..., object], point: Point) -> Callable[..., object]:
    calls = count(1)

    def is_it(when: str, number: int) -> bool:
        return when == point.when and number == point.nth

    def call(*args: object, **named: object) -> object:
        number = next(calls) if point.which(*args, **named) else 0
        if is_it("before", number):
            time.sleep(point.lingers_s)
            _die(point)
        result = original(*args, **named)
        if is_it("after", number):
            _die(point)
        return result

    async def call_async(*args: object, **named: object) -> object:
        number = next(calls) if point.which(*args, **named) else 0
        if is_it("before", number):
            await asyncio.sleep(point.lingers_s)
            _die(point)
        result = await cast("Awaitable[object]", original(*args, **named))
        if is_it("after", number):
            _die(point)
        return result

    return call_async if asyncio.iscoroutinefunction(original) else call


def _deadly_generator(original: Callable[..., object], point: Point) -> Callable[..., object]:
    calls = count(1)

    def call(*args: object, **named: object) -> Generator[object, object, object]:
        due = point.which(*args, **named) and next(calls) == point.nth
        if due and point.when == "before":
            _die(point)
        result = yield from cast("Generator[object, object, object]", original(*args, **named))
        if due:
            _die(point)
        return result

    return call


def _die(point: Point) -> None:
    os.write(sys.stderr.fileno(), farewell(point).encode())
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    named, separator, *command = sys.argv[1:]
    assert separator == "--", __doc__
    arm(POINTS[named])
    sys.argv = ["cdc", *command]
    main()

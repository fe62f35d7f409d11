"""The lag, second by second, for as long as somebody watches; a source that goes away comes back.

One session serves all questions. Where it is lost, that is told, and another one is tried with
backoff; what trying again cannot help is raised, as by `cdc.assure.lag`.
"""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import psycopg

from cdc.assure.lag import Lag, measure_lag
from cdc.backoff import Verdict, delays, described, judge
from cdc.errors import CdcError
from cdc.postgres.session import connect
from cdc.settings import Settings

INTERVAL_S = 1.0


@dataclass(slots=True, frozen=True)
class Away:
    """The source cannot be asked."""

    problem: str
    delay_s: float
    """It is tried again after this."""


async def watch_lag(settings: Settings, *, ask_target: bool) -> AsyncGenerator[Lag | Away]:
    """Yield the lag about once a second, without end."""
    waits = delays()
    while True:
        try:
            async with await connect(settings.source.require_dsn()) as source:
                while True:
                    measured = await measure_lag(source, settings, ask_target=ask_target)
                    waits = delays()
                    yield measured
                    await asyncio.sleep(INTERVAL_S)
        except (psycopg.Error, CdcError, OSError) as ex:
            if judge(ex) is not Verdict.RETRY:
                raise
            away = Away(described(ex), next(waits))
        yield away
        await asyncio.sleep(away.delay_s)

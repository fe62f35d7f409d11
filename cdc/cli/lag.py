"""`cdc lag`: how far the copy is behind."""

import asyncio
import contextlib
import os
import sys
from dataclasses import dataclass
from typing import Annotated

import typer

from cdc.assure.lag import Lag, measure_lag, why_seconds_are_unknown
from cdc.assure.watching import Away, watch_lag
from cdc.cli.output import print_facts, print_json, settings, wal_budget
from cdc.cli.watch import Display, display
from cdc.postgres.session import connect
from cdc.settings import Settings
from cdc.sizes import readable_bytes


def lag(
    context: typer.Context,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object; with --watch one a line.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Measure every second, until Ctrl-C or a limit.")
    ] = False,
    target: Annotated[
        bool,
        typer.Option("--target", help="Ask the target for its checkpoint; wakes a sleeping Neon."),
    ] = False,
    max_seconds: Annotated[
        float | None,
        typer.Option("--max-seconds", metavar="SECONDS", min=0, help="Exit 1 if further behind."),
    ] = None,
    max_bytes: Annotated[
        int | None,
        typer.Option("--max-bytes", metavar="BYTES", min=0, help="Exit 1 if further behind."),
    ] = None,
) -> None:
    """Show how far the target is behind, by asking the source alone.

    With --watch a terminal shows the last minutes too; Ctrl-C exits 0, a limit that is passed exits
    1, and a source that goes away is waited for. Why it is behind: `cdc explain lag`.
    """
    given = settings(context)
    if watch:
        limits = _Limits(max_bytes, max_seconds)
        if _watch_until(given, limits, json=json, ask_target=target):
            raise typer.Exit(1)
        return
    measured, seconds = asyncio.run(_measure(given, ask_target=target))
    if json:
        print_json(measured)
    else:
        print_facts(_facts(measured, seconds))
    if measured.exceeds(max_bytes=max_bytes, max_seconds=max_seconds):
        raise typer.Exit(1)


async def _measure(given: Settings, *, ask_target: bool) -> tuple[Lag, str]:
    """Return the lag, and its seconds for people."""
    async with await connect(given.source.require_dsn()) as source:
        measured = await measure_lag(source, given, ask_target=ask_target)
        if measured.lag_seconds is None:
            return measured, await why_seconds_are_unknown(source, measured)
        return measured, f"{measured.lag_seconds:.1f} s"


def _watch_until(given: Settings, limits: "_Limits", *, json: bool, ask_target: bool) -> bool:
    """Watch until a limit is passed: True; or until Ctrl-C, or until nobody reads: False."""
    try:
        with display(json=json) as shown:
            return asyncio.run(_watch(given, shown, limits, ask_target=ask_target))
    except KeyboardInterrupt:
        return False
    except BrokenPipeError:
        # What is still in the buffer would complain again when the process ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False


async def _watch(given: Settings, shown: Display, limits: "_Limits", *, ask_target: bool) -> bool:
    async with contextlib.aclosing(watch_lag(given, ask_target=ask_target)) as watched:
        async for found in watched:
            if isinstance(found, Away):
                shown.tell(found)
                continue
            shown.show(found)
            if found.exceeds(max_bytes=limits.bytes, max_seconds=limits.seconds):
                return True
    return False


@dataclass(slots=True, frozen=True)
class _Limits:
    bytes: int | None
    seconds: float | None


def _facts(measured: Lag, seconds: str) -> list[tuple[str, str]]:
    facts = [
        ("slot", f"{measured.slot} ({'streaming' if measured.active else 'nobody streams'})"),
        ("behind", readable_bytes(measured.lag_bytes)),
        ("for", seconds),
        ("source", measured.source_lsn),
        ("confirmed", measured.confirmed_flush_lsn or "never"),
    ]
    if measured.checkpoint_lsn is not None:
        facts.append(("checkpoint", measured.checkpoint_lsn))
    return [
        *facts,
        ("WAL kept", readable_bytes(measured.retained_wal_bytes)),
        ("WAL budget", wal_budget(measured)),
        ("WAL status", measured.wal_status or "unknown"),
    ]

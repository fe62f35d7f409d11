"""`cdc lag`: how far the copy is behind."""

import asyncio
from typing import Annotated

import typer

from cdc.assure.lag import Lag, measure_lag
from cdc.cli.output import print_facts, print_json, settings
from cdc.postgres.session import connect
from cdc.settings import Settings
from cdc.sizes import readable_bytes

_WATCH_INTERVAL_S = 1.0


def lag(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Measure every second.")] = False,
    target: Annotated[
        bool,
        typer.Option("--target", help="Ask the target for its checkpoint; wakes a sleeping Neon."),
    ] = False,
    max_seconds: Annotated[
        float | None, typer.Option("--max-seconds", min=0, help="Exit 1 if further behind.")
    ] = None,
    max_bytes: Annotated[
        int | None, typer.Option("--max-bytes", min=0, help="Exit 1 if further behind.")
    ] = None,
) -> None:
    """Show how far the target is behind, by asking the source alone."""
    given = settings(context)
    if watch:
        asyncio.run(_watch(given, ask_target=target))
        return
    measured = asyncio.run(_measure(given, ask_target=target))
    if json:
        print_json(measured)
    else:
        print_facts(_facts(measured))
    if measured.exceeds(max_bytes=max_bytes, max_seconds=max_seconds):
        raise typer.Exit(1)


async def _measure(given: Settings, *, ask_target: bool) -> Lag:
    async with await connect(given.source.require_dsn()) as source:
        return await measure_lag(source, given, ask_target=ask_target)


async def _watch(given: Settings, *, ask_target: bool) -> None:
    async with await connect(given.source.require_dsn()) as source:
        from rich.live import Live  # noqa: PLC0415  # of each start 60 ms, for this alone

        with Live() as live:
            while True:
                measured = await measure_lag(source, given, ask_target=ask_target)
                live.update("\n".join(f"{name:<12}  {value}" for name, value in _facts(measured)))
                await asyncio.sleep(_WATCH_INTERVAL_S)


def _facts(measured: Lag) -> list[tuple[str, str]]:
    seconds = measured.lag_seconds
    facts = [
        ("slot", f"{measured.slot} ({'streaming' if measured.active else 'nobody streams'})"),
        ("behind", readable_bytes(measured.lag_bytes)),
        ("for", "unknown" if seconds is None else f"{seconds:.1f} s"),
        ("source", measured.source_lsn),
        ("confirmed", measured.confirmed_flush_lsn or "never"),
    ]
    if measured.checkpoint_lsn is not None:
        facts.append(("checkpoint", measured.checkpoint_lsn))
    safe = measured.safe_wal_bytes
    return [
        *facts,
        ("WAL kept", readable_bytes(measured.retained_wal_bytes)),
        ("WAL budget", "no limit" if safe is None else f"{readable_bytes(safe)} left"),
        ("WAL status", measured.wal_status or "unknown"),
    ]

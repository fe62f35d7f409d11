"""`cdc slot`: create, drop, list."""

import asyncio
from typing import Annotated

import typer

from cdc.cli.output import print_json, print_table, settings
from cdc.errors import CheckFailed
from cdc.postgres.session import connect
from cdc.settings import Settings
from cdc.sizes import readable_bytes
from cdc.source.slot import Slot, create_slot, drop_slot, list_slots
from cdc.source.stream import ReplicationStream
from cdc.sync.initialize import ensure_tables

app = typer.Typer(no_args_is_help=True, help="The replication slot and the WAL that it retains.")


@app.command(name="list")
def list_(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List the source's logical slots: who reads them, what they retain, what is left."""
    slots = asyncio.run(_list(settings(context)))
    if json:
        print_json({"slots": slots})
        return
    print_table(
        ("slot", "plugin", "consumer", "wal_status", "behind", "retained", "budget left"),
        [
            (
                slot.name,
                slot.plugin or "",
                slot.consumer or "nobody",
                slot.wal_status or "unknown",
                readable_bytes(slot.lag_bytes),
                readable_bytes(slot.retained_wal_bytes),
                "no limit" if slot.safe_wal_bytes is None else readable_bytes(slot.safe_wal_bytes),
            )
            for slot in slots
        ],
    )


@app.command()
def create(context: typer.Context) -> None:
    """Create the slot without a copy: for a target that holds the source's rows already.

    `cdc init` creates it by itself, together with the copy. After this, `cdc init --no-snapshot`
    begins the stream where the slot begins.
    """
    given = settings(context)
    asyncio.run(_create(given))
    typer.echo(f"created slot {given.source.slot}; go on with `cdc init --no-snapshot`")


@app.command()
def drop(
    context: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Drop the slot, so that the source need no longer keep WAL for it.

    Changes from then on are lost to the target until a new copy is made. Refused while somebody
    streams from it.
    """
    given = settings(context)
    if not yes:
        typer.confirm(
            f"Drop slot {given.source.slot}? The target then needs a new copy.", abort=True
        )
    asyncio.run(_drop(given))
    typer.echo(f"dropped slot {given.source.slot}")


async def _list(given: Settings) -> list[Slot]:
    async with await connect(given.source.require_dsn()) as source:
        return await list_slots(source)


async def _create(given: Settings) -> None:
    stream = await ReplicationStream.connect(given.source.require_dsn())
    try:
        async with await connect(given.source.require_dsn()) as source:
            if any(slot.name == given.source.slot for slot in await list_slots(source)):
                raise CheckFailed(
                    f"slot {given.source.slot} exists already",
                    hint="`cdc slot list` shows it; `cdc slot drop` removes it",
                )
            # A publication has to be older than the slot, or its first changes cannot be decoded.
            await ensure_tables(source, given)
        await create_slot(stream.connection, given.source.slot, plugin=given.source.plugin)
    finally:
        await stream.close()


async def _drop(given: Settings) -> None:
    async with await connect(given.source.require_dsn()) as source:
        if all(slot.name != given.source.slot for slot in await list_slots(source)):
            raise CheckFailed(
                f"the source has no slot {given.source.slot}",
                hint="`cdc slot list` shows those that there are",
            )
        await drop_slot(source, given.source.slot)

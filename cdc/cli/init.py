"""`cdc init`: publication, slot, bookkeeping, initial snapshot, checkpoint."""

import asyncio
from typing import Annotated

import typer

from cdc import daemon
from cdc.cli.output import settings
from cdc.cli.progress import copy_progress


def init(
    context: typer.Context,
    no_snapshot: Annotated[
        bool,
        typer.Option("--no-snapshot", help="The target holds the source's rows already."),
    ] = False,
) -> None:
    """Make both databases ready: publication, slot, bookkeeping, initial copy, checkpoint.

    Safe to repeat: does what is missing, and goes on with a copy that was cut off. The target's
    tables must be there and be empty. Applications may write to the source all the while.
    """
    given = settings(context)
    if no_snapshot:
        asyncio.run(daemon.prepare(given, snapshot=False))
    else:
        with copy_progress() as report:
            asyncio.run(daemon.run(given, daemon.Until(copied=True), report))
    typer.echo("ready: `cdc run` starts the stream")

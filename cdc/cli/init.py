"""`cdc init`: publication, slot, bookkeeping, initial snapshot, checkpoint."""

import asyncio
from typing import Annotated

import typer

from cdc.cli.output import settings
from cdc.cli.progress import snapshot_progress
from cdc.daemon import prepare


def init(
    context: typer.Context,
    no_snapshot: Annotated[
        bool,
        typer.Option("--no-snapshot", help="The target holds the source's rows already."),
    ] = False,
) -> None:
    """Make both databases ready: publication, slot, bookkeeping, initial copy, checkpoint.

    Safe to repeat: does what is missing, and begins a copy anew that was cut off. The target's
    tables must be there and be empty. Applications may write to the source all the while.
    """
    with snapshot_progress() as report:
        asyncio.run(prepare(settings(context), snapshot=not no_snapshot, report=report))
    typer.echo("ready: `cdc run` starts the stream")

"""`cdc init`: publication, slot, bookkeeping, initial snapshot, checkpoint."""

import asyncio
from functools import partial
from typing import Annotated

import typer

from cdc import service
from cdc.cli.output import settings
from cdc.cli.progress import copy_progress
from cdc.daemon import Until
from cdc.prepare import prepare


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
    if no_snapshot:
        asyncio.run(prepare(settings(context), snapshot=False))
    else:
        with copy_progress() as report:
            service.run(partial(settings, context), Until(copied=True), report)
    typer.echo("ready: `cdc run` starts the stream")

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
from cdc.settings import Settings
from cdc.sync.start import require_position


def init(
    context: typer.Context,
    no_snapshot: Annotated[
        bool,
        typer.Option("--no-snapshot", help="The target holds the source's rows already."),
    ] = False,
) -> None:
    """Make both databases ready: publication, slot, bookkeeping, initial copy, checkpoint.

    Safe to repeat: does what is missing, and goes on with a copy that was cut off; exits 78 where
    the slot is lost since. The target's tables must be there and be empty. Applications may write
    to the source all the while.
    """
    if no_snapshot:
        asyncio.run(_take_over(settings(context)))
    else:
        with copy_progress() as report:
            service.run(partial(settings, context), Until(copied=True), report)
    typer.echo("ready: `cdc run` starts the stream")


async def _take_over(given: Settings) -> None:
    await prepare(given, snapshot=False)
    await require_position(given)

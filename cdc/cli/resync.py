"""`cdc resync`: copy tables again while the stream runs."""

import asyncio

import typer

from cdc.assure.resync import request_resync
from cdc.cli.output import settings
from cdc.cli.tables import Tables, names_of


def resync(
    context: typer.Context,
    tables: Tables = None,
) -> None:
    """Let the daemon copy tables again; it may run meanwhile, or be started afterwards.

    Until a copy is complete the table keeps the rows that it has. Then rows that differ are set to
    the source's, and what is extra goes, in one transaction. `cdc status` shows how far it is.
    """
    asked = asyncio.run(request_resync(settings(context), names_of(tables)))
    typer.echo(f"{len(asked)} tables will be copied: `cdc run` does it, `cdc status` shows it")

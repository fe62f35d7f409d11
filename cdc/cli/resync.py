"""`cdc resync`: copy tables again while the stream runs."""

import asyncio
from typing import Annotated

import typer

from cdc.assure.resync import request_resync
from cdc.cli.completion import configured_tables
from cdc.cli.output import settings
from cdc.settings import parse_table_name


def resync(
    context: typer.Context,
    tables: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TABLE]...",
            help="schema.table; all tables if none is given.",
            autocompletion=configured_tables,
        ),
    ] = None,
) -> None:
    """Let the daemon copy tables again; it may run meanwhile, or be started afterwards.

    Until a copy is complete the table keeps the rows that it has. Then rows that differ are set to
    the source's, and what is extra goes, in one transaction. `cdc status` shows how far it is.
    """
    try:
        names = [parse_table_name(table) for table in tables or ()]
    except ValueError as ex:
        raise typer.BadParameter(str(ex)) from ex
    asked = asyncio.run(request_resync(settings(context), names))
    typer.echo(f"{len(asked)} tables will be copied: `cdc run` does it, `cdc status` shows it")

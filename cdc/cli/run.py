"""`cdc run`: the daemon."""

from functools import partial
from typing import Annotated

import typer

from cdc import service
from cdc.cli.output import settings
from cdc.cli.progress import copy_progress
from cdc.daemon import Until
from cdc.lsn import Lsn, parse_lsn


def _lsn(text: str) -> Lsn:
    try:
        return parse_lsn(text)
    except ValueError as ex:
        raise typer.BadParameter("an LSN looks like 16/B374D848") from ex


def run(
    context: typer.Context,
    until_current: Annotated[
        bool,
        typer.Option("--until-current", help="Exit 0 once all that is committed now is copied."),
    ] = False,
    until_lsn: Annotated[
        Lsn | None,
        typer.Option(
            "--until-lsn",
            parser=_lsn,
            metavar="LSN",
            help="Exit 0 once all commits up to this LSN are durable on the target.",
        ),
    ] = None,
) -> None:
    """Copy changes from source to target until stopped. Runs `cdc init` first where needed.

    SIGTERM or Ctrl-C finishes the batch in hand, confirms it and exits 0. A database that is away
    is waited for; what needs an operator exits 78 and says what to do. Beside a daemon that runs,
    a command with an end waits until that one is so far; one without stands by.
    """
    until = Until(current=until_current, lsn=until_lsn)
    with copy_progress() as report:
        service.run(partial(settings, context), until, report)

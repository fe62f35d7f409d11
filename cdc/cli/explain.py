"""`cdc explain`: why something is as it is."""

import asyncio
import sys
from typing import Annotated

import typer

from cdc.assure.explain import explain_lag
from cdc.assure.explain.findings import Finding, Stage
from cdc.cli.output import print_json, settings

app = typer.Typer(no_args_is_help=True, help="Why something is as it is, and what to do about it.")


@app.callback()
def explain() -> None:
    """Why something is as it is, and what to do about it."""


@app.command()
def lag(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say which stage holds the pipeline back, and what to do: the first finding is the verdict.

    Looks at the source for up to seven seconds: slot, walsender, running transactions. Only if
    something is behind and that does not say why, it connects to the target, and a sleeping Neon
    wakes up: the daemon's sessions there, who blocks them, quarantine, copies. It changes nothing.

    Exits 0 if nothing is behind or the cause is named, 1 if nothing is found that holds it back.
    """
    found = asyncio.run(explain_lag(settings(context), looking=_say))
    if json:
        print_json(found)
    else:
        for finding in found.findings:
            _print(finding, found.verdict)
    if not found.explained:
        raise typer.Exit(1)


def _say(side: str) -> None:
    if sys.stderr.isatty():
        typer.echo(f"looking at the {side} …", err=True)


def _print(finding: Finding, verdict: Stage) -> None:
    colour = "green" if finding.stage is Stage.NONE else "yellow"
    if finding.stage is verdict and verdict is not Stage.NONE:
        colour = "red"
    typer.secho(finding.stage.value, fg=colour, bold=finding.stage is verdict, nl=False)
    typer.echo(f": {finding.seen}")
    for line in finding.next.splitlines():
        typer.echo(f"        {line}")

"""`cdc check`: what would break, and what mends it."""

import asyncio
from typing import Annotated

import typer

from cdc.assure.preflight import preflight
from cdc.assure.preflight.findings import Finding, Severity
from cdc.cli.output import print_json, settings


def check(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Look at both databases: what would break, and what mends it.

    Changes nothing. Exits 1 if something would break; warnings alone exit 0. It connects to the
    target, so a sleeping Neon wakes up.
    """
    findings = asyncio.run(preflight(settings(context)))
    breaking = [finding for finding in findings if finding.severity is Severity.BREAKS]
    if json:
        print_json({"ok": not breaking, "findings": findings})
    else:
        for finding in findings:
            _print(finding)
        if not findings:
            typer.secho("ok: nothing to mend", fg="green")
        elif not breaking:
            typer.secho("ok: nothing would break", fg="green")
    if breaking:
        raise typer.Exit(1)


def _print(finding: Finding) -> None:
    breaks = finding.severity is Severity.BREAKS
    typer.secho("breaks" if breaks else "warns ", fg="red" if breaks else "yellow", nl=False)
    typer.echo(f"  {finding.side} {finding.subject}: {finding.problem}")
    for line in finding.mend.splitlines():
        typer.echo(f"        {line}")

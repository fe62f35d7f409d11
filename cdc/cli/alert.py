"""`cdc alert`: who is told when something is wrong."""

import asyncio

import typer

from cdc.cli.output import settings

app = typer.Typer(no_args_is_help=True, help="Alerts: who is told when something is wrong.")


@app.command()
def test(context: typer.Context) -> None:
    """Send a test alert to `alerts.url` and say what came back; exit 1 unless it has arrived.

    It is sent once, signed if `alerts.key` is given. No database is asked anything, and no daemon.
    """
    from cdc.observe.alerting import try_out  # noqa: PLC0415  # of each start 60 ms, for this alone

    outcome = asyncio.run(try_out(settings(context)))
    if not outcome.arrived:
        typer.secho(f"not delivered: {outcome.said}", fg="red")
        raise typer.Exit(1)
    typer.secho(f"delivered: {outcome.said}", fg="green")

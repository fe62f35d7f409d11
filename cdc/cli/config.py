"""`cdc config`: the settings in force."""

from typing import Annotated

import typer

from cdc.cli.output import loaded, print_json, print_table

app = typer.Typer(no_args_is_help=True, help="The settings.")


@app.command()
def show(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the settings in force and where each came from, secrets masked."""
    each = list(loaded(context).each())
    if json:
        print_json({"settings": each})
        return
    print_table(
        ("setting", "environment", "value", "from"),
        [(s.name, s.environment or "none", s.value or "none", s.origin) for s in each],
    )

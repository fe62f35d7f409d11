"""Tables as arguments of a command: by name, all of them if none is named."""

from collections.abc import Sequence
from typing import Annotated, TypeAlias

import typer

from cdc.cli.completion import configured_tables
from cdc.postgres.ordering import QualifiedName
from cdc.settings import parse_table_name

Tables: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[TABLE]...",
        help="schema.table; all tables if none is given.",
        autocompletion=configured_tables,
    ),
]


def names_of(tables: Sequence[str] | None) -> list[QualifiedName]:
    """Return schema and name of each; raises BadParameter for what is none."""
    try:
        return [parse_table_name(table) for table in tables or ()]
    except ValueError as ex:
        raise typer.BadParameter(str(ex)) from ex

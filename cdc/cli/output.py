"""How commands print: JSON for machines, tables for people, plain text where no terminal is."""

import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import orjson
import typer

from cdc.assure.lag import Lag
from cdc.settings import LoadedSettings, Settings, load_settings
from cdc.sizes import readable_share


def loaded(context: typer.Context) -> LoadedSettings:
    """Return the settings for the command line that `context` belongs to."""
    return load_settings(context.obj)


def settings(context: typer.Context) -> Settings:
    """Return the settings alone."""
    return loaded(context).settings


def print_json(value: object) -> None:
    """Print one JSON object (a dataclass, or a dict of such) on stdout."""
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n")


def print_json_line(value: object) -> None:
    """Print one JSON object on a line of its own, at once."""
    sys.stdout.write(orjson.dumps(value).decode() + "\n")
    sys.stdout.flush()


def print_facts(
    facts: Sequence[tuple[str, str]], colours: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Print names and values, aligned; on a terminal some values in the colour of their name."""
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        typer.echo(f"{name:<{width}}  ", nl=False)
        typer.secho(value.replace("\n", f"\n{' ' * width}  "), fg=colours.get(name))


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; without a terminal, values separated by tabs."""
    if not sys.stdout.isatty():
        for row in (headings, *rows):
            typer.echo("\t".join(row))
        return
    from rich.console import Console  # noqa: PLC0415  # of each start 60 ms, for a terminal alone
    from rich.table import Table  # noqa: PLC0415

    table = Table(*headings, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def wal_budget(lag: Lag) -> str:
    """Return how much WAL can still be written before the slot is lost."""
    if lag.wal_status == "lost":
        return "none left: the slot is lost"
    return readable_share(lag.retained_wal_bytes, lag.safe_wal_bytes)

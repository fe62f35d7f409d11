"""`cdc verify`: whether the target holds what the source does."""

import asyncio
from typing import Annotated

import typer

from cdc.assure.verify import Verification
from cdc.assure.verify import verify as verify_pair
from cdc.assure.verify.comparison import TableComparison, shown
from cdc.assure.verify.repair import repair as repair_tables
from cdc.assure.verify.watcher import Watcher
from cdc.cli.output import print_json, print_table, settings
from cdc.cli.tables import Tables, names_of
from cdc.cli.verifying import watching
from cdc.lsn import format_lsn
from cdc.postgres.ordering import QualifiedName
from cdc.settings import Settings


def verify(
    context: typer.Context,
    tables: Tables = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Set tables that differ to what the source has, and compare them again.",
        ),
    ] = False,
) -> None:
    """Compare the target with the source, row for row at one LSN, while both are written to.

    A running daemon lets the stream stand still for a moment, so that both sides are seen at one
    place of it. The servers make digests of their rows; rows are sent only where these differ. A
    migration that wants a table meanwhile is given way: exit 75, try again. Exits 1 if rows differ.
    """
    with watching() as watcher:
        found = asyncio.run(_verify(settings(context), names_of(tables), watcher, repair=repair))
    if json:
        counted = {shown(name): counts for name, counts in found.tables.items()}
        print_json({"equal": not found.differing, "lsn": format_lsn(found.lsn), "tables": counted})
    else:
        _print(found)
    if found.differing:
        raise typer.Exit(1)


async def _verify(
    given: Settings, names: list[QualifiedName], watcher: Watcher, *, repair: bool
) -> Verification:
    found = await verify_pair(given, names, watcher)
    if not (found.differing and repair):
        return found
    await repair_tables(given, found.differing, watcher)
    return await verify_pair(given, names, watcher)  # all of them: the answer is of one LSN


def _print(found: Verification) -> None:
    headings = ("table", "source", "target", "missing", "extra", "different")
    print_table(headings, [_row(name, counts) for name, counts in found.tables.items()])
    lsn, number = format_lsn(found.lsn), len(found.differing)
    if not number:
        typer.secho(f"equal at {lsn}", fg="green")
        return
    what = "1 table differs" if number == 1 else f"{number} tables differ"
    typer.secho(f"{what} at {lsn}: `cdc verify --repair` sets them right", fg="red")


def _row(name: QualifiedName, counts: TableComparison) -> list[str]:
    numbers = (
        counts.source_rows,
        counts.target_rows,
        counts.missing,
        counts.extra,
        counts.different,
    )
    return [shown(name), *(f"{number:,}" for number in numbers)]

"""`cdc demo`: the main job on two servers of its own."""

from typing import TYPE_CHECKING, Annotated

import typer

from cdc.assure.verify.comparison import TableComparison
from cdc.cli.output import print_json, print_table
from cdc.sizes import readable_bytes

if TYPE_CHECKING:
    from cdc.demo.rehearsal import Outcome


def demo(
    rows: Annotated[
        int,
        typer.Option("--rows", metavar="N", min=100, help="Rows to load before the copy, about."),
    ] = 50_000,
    seconds: Annotated[
        float,
        typer.Option(
            "--seconds", metavar="SECONDS", min=1, help="How long to stream, after the copy."
        ),
    ] = 10,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Copy between two PostgreSQL servers under load, kill the daemon on the way, prove the copy.

    Starts two throwaway servers and runs the real `cdc run` between them while a writer goes on.
    Exits 0 only if every row of every table is equal in the end. Touches no other database; Ctrl-C
    leaves nothing behind.
    """
    from cdc.demo.display import Display  # noqa: PLC0415  # of each start 40 ms, for this alone
    from cdc.demo.rehearsal import Interrupted, rehearse  # noqa: PLC0415

    try:
        with Display() as display:
            outcome = rehearse(rows, seconds, display)
    except Interrupted as ex:
        typer.echo(f"interrupted by {ex.signum.name}: servers stopped, files removed", err=True)
        raise typer.Exit(128 + ex.signum) from None
    if json:
        print_json(outcome)
    else:
        print_table(
            ("table", "rows on source", "rows on target", "equal"),
            [
                (name, f"{table.source_rows:,}", f"{table.target_rows:,}", _equal(table))
                for name, table in outcome.tables.items()
            ],
        )
        typer.echo(_summary(outcome))
    if not outcome.equal:
        raise typer.Exit(1)


def _equal(table: TableComparison) -> str:
    if table.equal:
        return "yes"
    return f"NO: {table.missing:,} missing, {table.extra:,} extra, {table.different:,} different"


def _summary(outcome: "Outcome") -> str:
    verdict = "equal, row for row" if outcome.equal else "NOT EQUAL"
    return (
        f"{verdict}: {outcome.rows_copied:,} rows copied, then {outcome.transactions:,}"
        f" transactions with {outcome.changes:,} changes applied"
        f" ({outcome.changes_per_second:,.0f} a second), at most {outcome.max_lag_seconds:.1f} s"
        f" and {readable_bytes(outcome.max_lag_bytes)} behind; {outcome.seconds:.0f} s in all"
    )

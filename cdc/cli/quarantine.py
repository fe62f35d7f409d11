"""`cdc quarantine`: changes that could not be applied."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from cdc.assure import quarantine
from cdc.changes.change import Change
from cdc.cli.output import print_facts, print_json, print_table, settings
from cdc.errors import CheckFailed
from cdc.target.quarantine import Entry
from cdc.wire.messages import UNCHANGED, Row

app = typer.Typer(
    no_args_is_help=True,
    help="Changes that the target refused, and later ones of the same rows that wait behind them.",
)

Ids = Annotated[list[int], typer.Argument(metavar="ID", help="Numbers, as `list` shows them.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@dataclass(slots=True)
class _Listed:
    id: int
    at: str
    lsn: str
    relation: str
    operation: str
    key: tuple[str, ...]
    reason: str | None
    waits_for: int | None
    resolved_at: str | None
    resolution: str | None


@dataclass(slots=True)
class _Value:
    column: str
    value: str | None
    unchanged: bool
    """The update leaves it as it is on the target."""


@dataclass(slots=True)
class _Shown:
    entry: _Listed
    row_before: list[_Value]
    """What the row was known by; empty for a new one."""
    row_after: list[_Value]
    """Empty if the row is gone."""


@app.command(name="list")
def list_(
    context: typer.Context,
    resolved: Annotated[
        bool, typer.Option("--all", help="Also those that were applied or skipped since.")
    ] = False,
    json: Json = False,
) -> None:
    """List the changes in quarantine, without values; `show` has them."""
    entries = asyncio.run(quarantine.list_entries(settings(context), resolved=resolved))
    listed = [_list(entry, entries) for entry in entries]
    if json:
        print_json({"entries": listed})
    elif not listed:
        typer.echo("nothing is in quarantine")
    else:
        print_table(
            ("id", "since", "LSN", "relation", "operation", "key", "why"),
            [
                (str(e.id), e.at[:19], e.lsn, e.relation, e.operation, ", ".join(e.key), _why(e))
                for e in listed
            ],
        )


@app.command()
def show(
    context: typer.Context,
    id_: Annotated[int, typer.Argument(metavar="ID", help="Number, as `list` shows it.")],
    json: Json = False,
) -> None:
    """Show one change with its row's values."""
    entries = asyncio.run(quarantine.list_entries(settings(context), resolved=True))
    for entry in entries:
        if entry.id == id_:
            break
    else:
        raise CheckFailed(
            f"no entry {id_} is in quarantine",
            hint="`cdc quarantine list --all` shows those that there are",
        )
    shown = _show(entry, entries)
    if json:
        print_json(shown)
        return
    facts = [(name, str(getattr(shown.entry, name))) for name in ("id", "at", "lsn", "relation")]
    facts += [("operation", shown.entry.operation), ("why", _why(shown.entry))]
    for title, values in (("before", shown.row_before), ("after", shown.row_after)):
        facts += [(f"{title} {value.column}", _text(value)) for value in values]
    print_facts(facts)


@app.command()
def retry(
    context: typer.Context,
    ids: Annotated[
        list[int] | None,
        typer.Argument(metavar="ID", help="Numbers, as `list` shows them; none: all."),
    ] = None,
    json: Json = False,
) -> None:
    """Try changes again, in order; exit 1 if the target still refuses one.

    The daemon may run meanwhile. A change that waits for an earlier one is not tried before it.
    """
    attempts = asyncio.run(quarantine.retry(settings(context), ids or []))
    applied = [attempt for attempt in attempts if attempt.problem is None]
    if json:
        results = [{"id": a.entry.id, "applied": a in applied, "why": a.problem} for a in attempts]
        print_json({"attempts": results})
    else:
        for attempt in attempts:
            name = f"{attempt.entry.id} {attempt.entry.operation} of {attempt.entry.table}"
            typer.echo(f"{name}: {attempt.problem or 'applied'}")
        typer.echo(f"{len(applied)} of {len(attempts)} applied")
    if len(applied) < len(attempts):
        raise typer.Exit(1)


@app.command()
def skip(
    context: typer.Context,
    ids: Ids,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Give changes up for good; the ledger says which. The target then differs from the source.

    What waits behind them can be retried afterwards.
    """
    if not yes:
        typer.confirm(f"Give up {len(ids)} of the source's changes?", abort=True)
    skipped = asyncio.run(quarantine.skip(settings(context), ids))
    for entry in skipped:
        typer.echo(f"skipped {entry.id}, {entry.operation} of {entry.table}")
    typer.echo("what waited behind them: `cdc quarantine retry`")


def _list(entry: Entry, entries: Sequence[Entry]) -> _Listed:
    return _Listed(
        entry.id,
        entry.at,
        entry.lsn,
        str(entry.table),
        entry.operation,
        entry.table.key_columns,
        entry.reason,
        quarantine.waits_for(entry, entries) if entry.resolved_at is None else None,
        entry.resolved_at,
        entry.resolution,
    )


def _why(entry: _Listed) -> str:
    if entry.resolution is not None:
        return entry.resolution
    return entry.reason or f"waits for {entry.waits_for}"


def _show(entry: Entry, entries: Sequence[Entry]) -> _Shown:
    listed, change = _list(entry, entries), entry.change
    if not isinstance(change, Change):
        return _Shown(listed, [], [])
    table = entry.table
    known_by = table.key_columns or table.columns
    before = [] if change.old is None else _values(known_by, change.old)
    after = [] if change.row is None else _values(table.columns, change.row)
    return _Shown(listed, before, after)


def _values(columns: Sequence[str], row: Row) -> list[_Value]:
    return [
        _Value(column, value.decode(), unchanged=False)
        if value is not None and value is not UNCHANGED
        else _Value(column, None, unchanged=value is UNCHANGED)
        for column, value in zip(columns, row, strict=True)
    ]


def _text(value: _Value) -> str:
    if value.unchanged:
        return "(unchanged)"
    return "NULL" if value.value is None else value.value

"""`cdc status`: everything at a glance."""

import asyncio
from typing import Annotated

import typer

from cdc.assure.status import LastVerification, Status, load_status
from cdc.cli.colours import BAD, FAIR, GOOD, of_budget, of_lag
from cdc.cli.output import print_facts, print_json, settings, wal_budget
from cdc.sizes import readable_bytes, readable_seconds
from cdc.verified import named


def status(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show both sides, slot, checkpoint, snapshot, open ledger entries, what was verified last.

    Asks both databases, so a sleeping Neon wakes up; `cdc lag` asks the source alone.
    """
    found = asyncio.run(load_status(settings(context)))
    if json:
        print_json(found)
    else:
        print_facts(_facts(found), _colours(found))


def _facts(found: Status) -> list[tuple[str, str]]:
    lag, age = found.lag, found.checkpoint_age_seconds
    quarantined = found.quarantined_changes
    late = of_lag(lag) != GOOD and lag.active
    since = "" if lag.lag_seconds is None else f", for {readable_seconds(lag.lag_seconds)}"
    behind = f"{readable_bytes(lag.lag_bytes)}{since}"
    moved = "" if age is None else f", moved {readable_seconds(age)} ago"
    idle = "no: the target was promoted" if found.promoted_at else "no: start `cdc run`"
    promoted = f", promoted at {found.promoted_at}" if found.promoted_at else ""
    spooled = (
        f"{readable_bytes(found.spooled_bytes)} in {found.spooled_transactions:,} transactions"
    )
    return [
        ("source", found.source),
        ("publication", f"{found.publication or 'none'}, {found.published_tables} tables"),
        ("slot", f"{lag.slot}, {lag.wal_status}{': `cdc check`' if _lost(found) else ''}"),
        ("streaming", "yes" if lag.active else idle),
        ("behind", f"{behind}{': `cdc explain lag`' if late else ''}"),
        ("WAL budget", wal_budget(lag)),
        ("target", f"{found.target}{promoted}"),
        ("snapshot", f"{found.snapshot_rows:,} rows of {found.snapshot_tables} tables"),
        *((("copying", "\n".join(found.copying)),) if found.copying else ()),
        ("checkpoint", f"{found.checkpoint_lsn or 'none yet'}{moved}"),
        (
            "applied",
            f"{found.transactions_applied:,} transactions, {found.changes_applied:,} changes",
        ),
        ("spool", spooled if found.spooled_transactions else "empty"),
        (
            "quarantine",
            f"{quarantined:,} changes: `cdc quarantine list`" if quarantined else "empty",
        ),
        ("ledger", "\n".join(found.open_ledger_entries) or "nothing open"),
        ("verified", _verified(found.verification)),
    ]


def _verified(found: LastVerification | None) -> str:
    if found is None:
        return "never: `cdc verify`"
    result = "equal"
    if found.differing:
        result = f"rows differ in {named(found.differing)}: `cdc verify --repair`"
    tables = f"{found.tables:,} {'table' if found.tables == 1 else 'tables'}"
    age = readable_seconds(found.age_seconds)
    return f"{result} ({found.rows:,} rows of {tables} at {found.lsn}, {age} ago)"


def _colours(found: Status) -> dict[str, str]:
    """Judge what can be good or bad."""
    return {
        "slot": BAD if _lost(found) else GOOD,
        "streaming": GOOD if found.lag.active else BAD,
        "behind": of_lag(found.lag),
        "WAL budget": of_budget(found.lag),
        "copying": FAIR,
        "target": FAIR if found.promoted_at else "",
        "checkpoint": GOOD if found.checkpoint_lsn else BAD,
        "spool": FAIR if found.spooled_transactions else GOOD,
        "quarantine": BAD if found.quarantined_changes else GOOD,
        "ledger": BAD if found.open_ledger_entries else GOOD,
        "verified": _of_verification(found.verification),
    }


def _of_verification(found: LastVerification | None) -> str:
    if found is None:
        return FAIR
    return BAD if found.differing else GOOD


def _lost(found: Status) -> bool:
    return found.lag.wal_status == "lost"

"""`cdc status`: everything at a glance."""

import asyncio
from typing import Annotated

import typer

from cdc.assure.status import load_status
from cdc.cli.output import print_facts, print_json, settings
from cdc.sizes import readable_bytes


def status(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show source, slot, publication, target, checkpoint, snapshot and open ledger entries.

    Asks both databases, so a sleeping Neon wakes up; `cdc lag` asks the source alone.
    """
    found = asyncio.run(load_status(settings(context)))
    if json:
        print_json(found)
        return
    spooled = (
        f"{readable_bytes(found.spooled_bytes)} in {found.spooled_transactions:,} transactions"
    )
    age, quarantined = found.checkpoint_age_seconds, found.quarantined_changes
    at = f"{found.checkpoint_lsn or 'none yet'}{'' if age is None else f', moved {age:.0f} s ago'}"
    print_facts(
        [
            ("source", found.source),
            ("publication", f"{found.publication or 'none'}, {found.published_tables} tables"),
            ("slot", f"{found.lag.slot}, {found.lag.wal_status}"),
            ("streaming", "yes" if found.lag.active else "no: start `cdc run`"),
            ("behind", readable_bytes(found.lag.lag_bytes)),
            ("target", found.target),
            ("snapshot", f"{found.snapshot_rows:,} rows of {found.snapshot_tables} tables"),
            *((("copying", "\n".join(found.copying)),) if found.copying else ()),
            ("checkpoint", at),
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
        ]
    )

"""Asks for new copies of tables: noted on the target, told to a running daemon by the stream.

The note is what counts; the logical message on the source only spares the daemon to ask the target
again and again, which would keep it awake.
"""

from collections.abc import Sequence

from cdc.changes.copies import QualifiedName
from cdc.errors import CheckFailed
from cdc.postgres.session import connect
from cdc.settings import Settings
from cdc.source.copied import load_copied_tables
from cdc.source.slot import RESYNC, emit_barrier
from cdc.target.checkpoint import bring_up_to_date, load_checkpoint, require_copy
from cdc.target.connection import connect_target
from cdc.target.copies import request_anew, take_over
from cdc.target.ledger import record


async def request_resync(settings: Settings, names: Sequence[QualifiedName]) -> list[QualifiedName]:
    """Ask for new copies, of all tables if there are no `names`; return whose."""
    slot = settings.source.slot
    async with (
        await connect(settings.source.require_dsn()) as source,
        await connect_target(settings.target.require_dsn()) as target,
    ):
        checkpoint = await load_checkpoint(target, slot)
        require_copy(checkpoint)
        if checkpoint is None or checkpoint.lsn is None:
            problem = f"the target has no checkpoint for slot {slot}"
            raise CheckFailed(problem, hint="run `cdc init`, which copies all tables")
        copied = await load_copied_tables(source, settings.source)
        there = [] if copied is None else [table.qualified_name for table in copied.tables]
        unknown = [f"{schema}.{name}" for schema, name in names if (schema, name) not in there]
        if unknown:
            raise CheckFailed(
                f"{', '.join(unknown)} is not copied from the source",
                hint="`cdc status` counts the tables that are; see the publication, or the schemas"
                " (CDC_SOURCE_SCHEMAS)",
            )
        wanted = list(names) or there
        async with target.transaction():
            if await bring_up_to_date(target):
                await take_over(target, slot, there)
            await request_anew(target, slot, wanted, gap=False)
            shown = ", ".join(f"{schema}.{name}" for schema, name in wanted)
            await record(target, slot, "resync asked for", shown)
        await emit_barrier(source, RESYNC)
    return wanted

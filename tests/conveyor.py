"""The real way of a change in this process: slot, pgoutput, decode, fold, `Writer`, its database.

What `sync.pipeline` leaves to time, where a batch ends, is said by the test here: after so many
changes, at each commit, and wherever the stream holds a logical message that says so. The test says
too in which form a batch is written, so that the forms that are only for trouble are used at will.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Literal, TypeAlias

from cdc.changes.batch import Batch, BatchBuilder
from cdc.changes.held import Waiting
from cdc.changes.relations import RelationCache
from cdc.errors import SlotBusy
from cdc.lsn import Lsn
from cdc.settings import SourceSettings
from cdc.source.stream import ReplicationStream
from cdc.target.checkpoint import claim
from cdc.target.plan import Plan
from cdc.target.session import Session
from cdc.target.write import Writer
from cdc.wire.messages import Commit, LogicalMessage, Message
from cdc.wire.pgoutput import decode
from cdc.wire.replication import PrimaryKeepalive, decode_frame
from tests.databases import fetch, run_sql
from tests.operations import TABLES
from tests.pair import SLOT_RELEASE_TIMEOUT_S, Pair
from tests.sql_source import TAKE
from tests.tally import count

Form: TypeAlias = Literal["planned", "in source order", "one by one"]
FORMS: tuple[Form, ...] = ("planned", "in source order", "one by one")


@dataclass(frozen=True, slots=True)
class Cutting:
    """Where batches end, beside the places that the stream names, and how they are written."""

    max_changes: int
    each_commit: bool
    form: Form


class FormWriter(Writer):
    """A writer that takes a later form at once, as if the target had refused those before it."""

    form: Form = "planned"

    async def _plan(self, batch: Batch) -> Plan | None:
        plan = await super()._plan(batch)
        return plan if self.form == "planned" else None

    async def _try(self, plan: Plan, batch: Batch, waiting: list[Waiting]) -> bool:
        return self.form != "one by one" and await super()._try(plan, batch, waiting)


class Conveyor:
    """A stream from a pair's slot, and the target that it goes to."""

    def __init__(self, stream: ReplicationStream, session: Session, writer: FormWriter) -> None:
        self._stream = stream
        self._session = session
        self._writer = writer
        self._builder = BatchBuilder(RelationCache(session.catalog.primary_keys()))

    @classmethod
    async def start(cls, pair: Pair) -> "Conveyor":
        """Stream from where the target stands."""
        session = await Session.open(pair.target_dsn, pair.slot, ["credit"])
        stream = await ReplicationStream.connect(pair.source_dsn)
        try:
            checkpoint = await claim(session.connection, pair.slot, None)
            assert checkpoint.lsn is not None
            source = SourceSettings(slot=pair.slot, publication=pair.publication)
            await stream.start(source, checkpoint.lsn)
        except BaseException:
            await stream.close()
            await session.connection.close()
            raise
        return cls(stream, session, FormWriter(session, checkpoint))

    async def carry(self, until: Lsn, cutting: Cutting, check: Callable[[Lsn], None]) -> None:
        """Bring the target to `until`; each time that it commits, call `check` with its LSN."""
        self._writer.form = cutting.form
        ended = False
        while not ended:
            for frame in await self._stream.receive():
                content = decode_frame(frame)
                if isinstance(content, PrimaryKeepalive):
                    continue
                message = decode(content.payload)
                self._builder.add(message, len(frame))
                ended = isinstance(message, Commit) and message.end_lsn >= until
                if ended or self._is_full(message, cutting):
                    await self._apply(check)
        self._stream.send_status(received=until, flushed=until, applied=until)

    def _is_full(self, message: Message, cutting: Cutting) -> bool:
        return (
            self._builder.changes >= cutting.max_changes
            or (isinstance(message, LogicalMessage) and message.content == TAKE.encode())
            or (isinstance(message, Commit) and cutting.each_commit)
        )

    async def _apply(self, check: Callable[[Lsn], None]) -> None:
        if not self._builder.has_work:
            return
        batch = self._builder.take()
        replayed = await self._writer.write(batch)
        count("fold, two servers", "changes", batch.changes)
        count("fold, two servers", "batches")
        count("fold, two servers", "replayed", replayed and self._writer.form == "planned")
        if batch.final:
            check(batch.end_lsn)

    async def stop(self) -> None:
        """End both sessions at once."""
        await self._stream.close()
        await self._session.connection.close()


async def begin_anew(pair: Pair) -> Conveyor:
    """Empty the tables of both sides, whatever is in them, and stream from the source's end."""
    truncate = f"truncate {', '.join(f'credit.{shape.name}' for shape in TABLES)}"
    run_sql(pair.source_dsn, truncate)
    (lsn,) = fetch(pair.source_dsn, "select pg_current_wal_insert_lsn()::text")
    run_sql(pair.target_dsn, truncate)
    run_sql(pair.target_dsn, "update cdc.checkpoint set lsn = %s::pg_lsn", lsn)
    deadline = monotonic() + SLOT_RELEASE_TIMEOUT_S
    while True:
        try:
            return await Conveyor.start(pair)
        except SlotBusy:  # the walsender before has not yet noticed its end
            assert monotonic() < deadline
            await asyncio.sleep(0.02)

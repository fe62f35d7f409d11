"""The points at which a daemon is killed, as data: a name, and the call that it is next to.

A point names a function of cdc as the module that calls it knows it, so that nothing of cdc is
there for the tests. `killed_at` puts a SIGKILL before or after the call.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from cdc.lsn import Lsn
from cdc.target.action import Copy
from cdc.target.transaction import Transaction
from cdc.wire.messages import Row


def _any(*_args: object, **_named: object) -> bool:
    return True


@dataclass(slots=True, frozen=True)
class Point:
    """Where a process dies."""

    name: str
    when: Literal["before", "after"]
    call: str
    """Module and attribute: `cdc.target.apply:Target.move`."""
    which: Callable[..., bool] = _any
    """Which calls count, by their arguments."""
    nth: int = 1
    twice: bool = False
    """The process after it is killed there as well."""
    lingers_s: float = 0.0
    """Before the call, other tasks go on for so long: what they confirm too early would be lost."""
    one_by_one: bool = False
    """Statements leave by themselves, not as one packet: so that there is something between."""


def _commits(_pgconn: object, statements: Sequence[tuple[bytes, Row]], _names: object) -> bool:
    return any(text == b"commit" for text, _ in statements)


def _writes(_pgconn: object, statements: Sequence[tuple[bytes, Row]], _names: object) -> bool:
    return any(text.startswith((b"insert", b"update", b"delete")) for text, _ in statements)


def _stages(_pgconn: object, copy: Copy) -> bool:
    return b"cdc stage" in copy.sql


def _fills(_pgconn: object, copy: Copy) -> bool:
    return b"cdc stage" not in copy.sql


def _goes_on(transaction: Transaction, *_args: object) -> bool:
    return transaction.is_open


def _is_idle(_stream: object, *, flushed: Lsn, applied: Lsn, **_named: object) -> bool:
    return flushed > applied


_PIPELINE = "cdc.target.pipelined:_run"
_SEND_STATUS = "cdc.source.stream:ReplicationStream.send_status"

# Longer than feedback waits between two confirmations.
_LINGERS_S = 0.3

BEFORE_COMMIT = Point(
    "before the target's COMMIT", "before", _PIPELINE, _commits, twice=True, one_by_one=True
)
AFTER_COMMIT = Point(
    "after the target's COMMIT",
    "before",
    "cdc.target.transaction:Transaction.committed",
    twice=True,
)
BEFORE_CONFIRMATION = Point("before the confirmation", "before", _SEND_STATUS, twice=True)
AFTER_CONFIRMATION = Point("after the confirmation", "after", _SEND_STATUS)

STREAM = (
    Point("after frames were received", "after", "cdc.source.stream:ReplicationStream.receive"),
    Point("within a transaction", "before", "cdc.sync.receiver:Receiver.take_in_payload", nth=5),
    Point("before a batch", "before", "cdc.target.apply:Target.apply"),
    Point(
        "after the first statement of a batch",
        "before",
        _PIPELINE,
        _writes,
        nth=2,
        one_by_one=True,
    ),
    Point("after a batch has left", "after", "cdc.target.pipelined:flush"),
    Point("after COPY into a stage", "after", "cdc.target.script:_pour", _stages),
    Point("after COPY into a table", "after", "cdc.target.script:_pour", _fills),
    BEFORE_COMMIT,
    AFTER_COMMIT,
    Point(
        "before the target's next COMMIT",
        "before",
        _PIPELINE,
        _commits,
        nth=2,
        lingers_s=_LINGERS_S,
        one_by_one=True,
    ),
    BEFORE_CONFIRMATION,
    AFTER_CONFIRMATION,
)

LARGE = (
    Point("after its first part", "after", "cdc.target.transaction:Transaction.keep", twice=True),
    Point("after its fourth part", "after", "cdc.target.transaction:Transaction.keep", nth=4),
    Point("within its last part", "before", "cdc.target.transaction:Transaction.end", _goes_on),
    Point("after its COMMIT", "before", "cdc.target.transaction:Transaction.committed", _goes_on),
)

IDLE = (
    Point(
        "before the fsync of the state",
        "before",
        "cdc.sync.position:os.fsync",
        lingers_s=_LINGERS_S,
    ),
    Point("between its fsync and rename", "after", "cdc.sync.position:os.fsync"),
    Point("after its rename", "before", "cdc.sync.position:sync_directory"),
    Point("after the fsync of the state", "after", "cdc.sync.position:IdleFile.save"),
    Point("after an idle confirmation", "after", _SEND_STATUS, _is_idle),
)

INITIALIZE = (
    Point("after the publication", "after", "cdc.sync.initialize:create_publication"),
    Point("after the bookkeeping", "after", "cdc.sync.initialize:add_bookkeeping"),
    Point("after the note of a slot to come", "after", "cdc.sync.initialize:begin_slot"),
    Point("after the slot", "after", "cdc.sync.initialize:create_slot", twice=True),
    Point("after the checkpoint, uncommitted", "after", "cdc.sync.initialize:begin_stream"),
    Point("after all is initialized", "after", "cdc.prepare:initialize"),
)

STANDING = Point("as the stream stands at the hold", "before", "cdc.sync.hold:Hold.stand")
WITHIN_COPY = Point("within the COPY of a chunk", "after", "psycopg:AsyncCopy.write")
COPIED = Point("after the second chunk", "after", "cdc.sync.workers:copy_chunk", nth=2)
KEYS_BACK = Point("after foreign keys came back", "before", "cdc.sync.layout:mark_complete")
COMPLETE = Point("after copies complete", "after", "cdc.sync.copier:Copier._complete")

COPY = (
    Point("within the begin of copies", "after", "cdc.sync.layout:begin_copy", nth=2),
    Point("after the begin of copies", "after", "cdc.sync.copier:begin_copies"),
    Point("after the temporary slot", "after", "cdc.sync.snapshot:create_temporary_slot"),
    STANDING,
    Point("before the move of the checkpoint", "before", "cdc.target.apply:Target.move"),
    Point("after the move of the checkpoint", "after", "cdc.target.apply:Target.move"),
    WITHIN_COPY,
    Point("before the mark of a chunk", "before", "cdc.sync.chunk:mark_copied"),
    Point("after the mark of a chunk", "after", "cdc.sync.chunk:mark_copied"),
    COPIED,
    Point("before chunks are noted", "after", "cdc.sync.workers:Workers.copy"),
    Point("before copies complete", "before", "cdc.sync.copier:complete_copies"),
    KEYS_BACK,
    COMPLETE,
)

ASKED = (
    Point("after the request, uncommitted", "after", "cdc.assure.resync:request_anew"),
    Point("before the daemon is told", "before", "cdc.assure.resync:emit_barrier"),
)

MEND = (
    Point("after COPY beside a table", "before", "cdc.sync.chunk:merge"),
    Point("after a chunk is mended", "after", "cdc.sync.chunk:merge"),
    COPIED,
    COMPLETE,
)

NEW_TABLE = (
    Point("after a table is published", "after", "cdc.sync.adopt:add_table"),
    Point("after the request of its copy", "after", "cdc.sync.copier:request_copies"),
    STANDING,
    COPIED,
    COMPLETE,
)

RENEW = (
    Point("after the gap is in the ledger", "after", "cdc.sync.start:record_gap"),
    Point("after the lost slot is dropped", "after", "cdc.sync.renew:drop_slot"),
    Point("after the new slot", "after", "cdc.sync.renew:create_slot", twice=True),
    Point("after the checkpoint is reset", "after", "cdc.sync.renew:renew_checkpoint"),
    Point("after new copies are asked for", "after", "cdc.sync.renew:request_anew"),
    Point("after the renewal", "after", "cdc.daemon:renew"),
    Point("after a shadow is made", "after", "cdc.sync.layout:make_shadow"),
    WITHIN_COPY,
    COPIED,
    Point("before shadows are merged", "before", "cdc.sync.layout:merge"),
    Point("within the merge of shadows", "after", "cdc.sync.layout:merge", nth=2),
    KEYS_BACK,
    COMPLETE,
)

VERIFY = (
    Point("after a verification is heard of", "after", "cdc.sync.vantage:hear"),
    STANDING,
    Point("before both sides are offered", "before", "cdc.sync.vantage:offer"),
    Point("after both sides are offered", "after", "cdc.sync.vantage:offer"),
    Point("as a result is read", "before", "cdc.sync.vantage:load_result"),
)

VERIFYING = (
    Point("after a verification is asked for", "after", "cdc.assure.verify.appointment:ask"),
    Point("after both sides are in view", "before", "cdc.assure.verify:join"),
    Point("before a result is noted", "before", "cdc.assure.verify:finish"),
    Point("after a result is noted", "after", "cdc.assure.verify:finish"),
)

SPOOL_MADE = (
    Point("after the rename of the spool", "before", "cdc.sync.spool.file:sync_directory"),
    Point("after the spool is made", "after", "cdc.sync.spool.choice:create_file"),
)

_STORE = "cdc.sync.spool.store:Store"

QUEUED = Point("after the fsync of the spool", "after", f"{_STORE}.append", nth=2)

QUEUE = (
    Point("before the spool is written", "before", f"{_STORE}.append"),
    # The first is of its begin.
    Point(
        "before the fsync of the spool", "before", f"{_STORE}._commit", nth=2, lingers_s=_LINGERS_S
    ),
    QUEUED,
    BEFORE_CONFIRMATION,
    AFTER_CONFIRMATION,
)

REPLAY = (
    Point("after a record is read", "after", "cdc.sync.spool.replay:Replay.receive"),
    BEFORE_COMMIT,
    AFTER_COMMIT,
    Point("before records are forgotten", "before", f"{_STORE}.forget"),
    Point("after records are forgotten", "after", f"{_STORE}.forget"),
    Point("after the hand-over", "before", "cdc.sync.turn:_straight"),
)

_PROMOTION = "cdc.assure.failover.promotion"

BEFORE_PROMOTION = (
    Point("as daemons are fenced off", "after", f"{_PROMOTION}:end_writers"),
    Point("after daemons are fenced off", "after", f"{_PROMOTION}:fence"),
    Point("as tables are taken back", "before", "cdc.assure.failover.taking_back:load_plan", nth=2),
    Point("after tables are taken back", "after", f"{_PROMOTION}:take_back"),
    Point("before the COMMIT of a promotion", "after", f"{_PROMOTION}:mark_promoted"),
)
AFTER_PROMOTION = (
    Point("after the COMMIT of a promotion", "before", f"{_PROMOTION}:load_unvalidated"),
    Point("within a validation", "before", f"{_PROMOTION}:validate", nth=2),
    Point("after a validation", "after", f"{_PROMOTION}:validate"),
)

_ALL = (
    *(*BEFORE_PROMOTION, *AFTER_PROMOTION),
    *(*STREAM, *LARGE, *IDLE, *INITIALIZE, *COPY, *ASKED, *MEND, *NEW_TABLE, *RENEW),
    *(*SPOOL_MADE, *QUEUE, *REPLAY, *VERIFY, *VERIFYING),
)
POINTS = {point.name: point for point in _ALL}

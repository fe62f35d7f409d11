"""What the source says, if it still says anything: what it has that the target lacks, who writes.

It may be dead, or be about to die: every question has a time to be answered in, and none writes.
A source that lives and refuses us is another matter: nobody here knows what it has, and all others
may go on to write to it.
"""

import asyncio
from dataclasses import dataclass, field, replace
from enum import Enum

import psycopg
from psycopg.conninfo import make_conninfo

from cdc.assure.failover.sequence_reader import load_source_next
from cdc.assure.lag import Lag, measure_lag
from cdc.backoff import Verdict, described, judge
from cdc.errors import CdcError, CheckFailed, SettingsError
from cdc.lsn import Lsn, parse_lsn
from cdc.postgres.activity import Session, load_sessions
from cdc.postgres.ordering import QualifiedName
from cdc.postgres.session import Connection, connect
from cdc.settings import Settings

CONNECT_S = 5
ANSWER_S = 10.0

# A running daemon confirms within a second what it has applied.
_CATCH_UP_S = 3.0
_POLL_S = 0.2


class Answer(Enum):
    """Whether the source is there."""

    ANSWERS = "answers"
    AWAY = "away"
    REFUSES = "refuses"
    """It is there, and not for us: nobody here knows what it has."""
    UNASKED = "unasked"
    """There is no DSN for it."""


@dataclass(slots=True, frozen=True)
class SourceFacts:
    """The source."""

    answer: Answer
    problem: str = ""
    """Why it does not answer."""
    lag: Lag | None = None
    """None: there is no slot, or no answer."""
    caught_up: bool = False
    """All that was committed when we asked is confirmed."""
    writers: tuple[Session, ...] = ()
    """Who has a transaction open that writes."""
    rows_written: int = 0
    """Since the server began to count, in our schemas: to be compared with a later look."""
    sequences: dict[QualifiedName, int] = field(default_factory=dict)
    """What they would give next."""

    @property
    def answers(self) -> bool:
        """It can be asked."""
        return self.answer is Answer.ANSWERS

    @property
    def confirmed(self) -> Lsn | None:
        """What the daemon has confirmed."""
        if self.lag is None or self.lag.confirmed_flush_lsn is None:
            return None
        return parse_lsn(self.lag.confirmed_flush_lsn)


_ROWS_WRITTEN = """
select coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::int8 from pg_stat_all_tables
 where schemaname = any(%s)
"""

# Writes of our own are heartbeats.
_WRITERS = (
    "a.backend_xid is not null and a.datname = current_database()"
    " and a.application_name not like 'cdc%'"
)


async def look_at_source(settings: Settings) -> SourceFacts:
    """Ask the source; return within twenty seconds, whatever it does."""
    try:
        dsn = settings.source.require_dsn()
    except SettingsError as ex:
        return SourceFacts(Answer.UNASKED, ex.message)
    try:
        async with asyncio.timeout(CONNECT_S + ANSWER_S):
            async with await _connect(dsn) as source:
                return await _look(source, settings)
    except TimeoutError:
        return SourceFacts(Answer.AWAY, "no answer in time")
    except (psycopg.Error, CdcError, OSError) as ex:
        away = judge(ex) is Verdict.RETRY
        return SourceFacts(Answer.AWAY if away else Answer.REFUSES, described(ex))


async def is_quiet(settings: Settings, before: SourceFacts) -> bool:
    """Tell whether nobody has written to the source since it was looked at; no answer: nobody."""
    try:
        async with asyncio.timeout(CONNECT_S), await _connect(settings.source.require_dsn()) as it:
            written = await _rows_written(it, settings)
            return written == before.rows_written and not await _load_writers(it)
    except (TimeoutError, psycopg.Error, CdcError, OSError):
        return True


async def _connect(dsn: str) -> Connection:
    short = make_conninfo(dsn, connect_timeout=CONNECT_S)
    return await connect(short, application_name="cdc failover")


async def _load_writers(source: Connection) -> tuple[Session, ...]:
    return tuple(await load_sessions(source, _WRITERS))


async def _look(source: Connection, settings: Settings) -> SourceFacts:
    facts = SourceFacts(
        Answer.ANSWERS,
        writers=await _load_writers(source),
        rows_written=await _rows_written(source, settings),
        sequences=await load_source_next(source),
    )
    try:
        lag, caught_up = await _catch_up(source, settings)
    except CheckFailed as ex:
        return replace(facts, problem=ex.message)
    return replace(facts, lag=lag, caught_up=caught_up)


async def _catch_up(source: Connection, settings: Settings) -> tuple[Lag, bool]:
    """Wait a moment for what is written just now; return how far the copy is, and if it is there.

    There it is once all is confirmed that was written when we began to look.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + _CATCH_UP_S
    lag = await measure_lag(source, settings, ask_target=False)
    goal = parse_lsn(lag.source_lsn)
    while True:
        confirmed = lag.confirmed_flush_lsn
        if lag.lag_bytes == 0 or (confirmed is not None and parse_lsn(confirmed) >= goal):
            return lag, True
        if not lag.active or loop.time() > until:
            return lag, False
        await asyncio.sleep(_POLL_S)
        lag = await measure_lag(source, settings, ask_target=False)


async def _rows_written(source: Connection, settings: Settings) -> int:
    row = await (await source.execute(_ROWS_WRITTEN, (settings.source.schemas,))).fetchone()
    assert row is not None
    return int(str(row[0]))

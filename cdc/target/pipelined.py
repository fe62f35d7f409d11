"""Statements with values, sent as one pipeline: one round trip, and one packet if they are few.

psycopg's own pipeline sends a packet a statement and looks around in between, which is half of what
a transaction of one row takes. What fails ends the pipeline: nothing behind it is run.

Who has values is prepared when it comes the first time, and stays so as long as its session.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import TypeAlias
from weakref import WeakKeyDictionary

import psycopg
from psycopg import AsyncConnection
from psycopg.abc import PQGen
from psycopg.errors import error_from_result
from psycopg.generators import fetch_many
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn, PGresult

from cdc.target.action import Action, Execute
from cdc.target.script import flush
from cdc.wire.messages import Row

# Each keeps its plan in the server's memory: what comes later is planned each time.
_MOST_PREPARED = 200

# Statements that are under way at once; answers to more would wait in the way of what is sent.
_TOGETHER = 500

_Prepared: TypeAlias = dict[bytes, bytes]
"""The names of prepared statements, by their texts."""

_PREPARED: WeakKeyDictionary[AsyncConnection[tuple[object, ...]], _Prepared] = WeakKeyDictionary()
_NUMBERS = count()


async def run_pipeline(
    connection: AsyncConnection[tuple[object, ...]], actions: Iterable[Action]
) -> None:
    """Run actions in order; raise the psycopg.Error of the first that fails."""
    prepared = _PREPARED.setdefault(connection, {})
    statements = [*_statements(actions)]
    async with connection.lock:
        for at in range(0, len(statements), _TOGETHER):
            together = statements[at : at + _TOGETHER]
            await connection.wait(_run(connection.pgconn, together, prepared))


def _statements(actions: Iterable[Action]) -> Iterator[tuple[bytes, Row]]:
    for action in actions:
        assert isinstance(action, Execute), "a COPY is a part of a script"
        if action.before is not None:
            yield from _statements([action.before])
        yield action.expecting(action.sql), action.parameters


def _run(
    pgconn: PGconn, statements: Sequence[tuple[bytes, Row]], prepared: _Prepared
) -> PQGen[None]:
    pgconn.enter_pipeline_mode()
    sent = _send(pgconn, statements, prepared)
    pgconn.pipeline_sync()
    yield from flush(pgconn)
    failed = yield from _receive(pgconn, sent, prepared)
    pgconn.exit_pipeline_mode()
    if failed is not None:
        raise error_from_result(failed)


def _send(
    pgconn: PGconn, statements: Sequence[tuple[bytes, Row]], prepared: _Prepared
) -> list[tuple[bytes, bytes] | None]:
    """Return for each answer that will come the text and the name that it says to be prepared."""
    preparing: _Prepared = {}
    sent: list[tuple[bytes, bytes] | None] = []
    for text, values in statements:
        name = prepared.get(text) or preparing.get(text)
        if name is None and values and len(prepared) + len(preparing) < _MOST_PREPARED:
            name = preparing[text] = b"cdc %d" % next(_NUMBERS)
            pgconn.send_prepare(name, text)
            sent.append((text, name))
        if name is None:
            pgconn.send_query_params(text, values)
        else:
            pgconn.send_query_prepared(name, values)
        sent.append(None)
    return sent


def _receive(
    pgconn: PGconn, sent: Sequence[tuple[bytes, bytes] | None], prepared: _Prepared
) -> PQGen[PGresult | None]:
    """Return the first answer that is an error."""
    failed: PGresult | None = None
    try:
        for preparation in sent:
            result = yield from _answer(pgconn)
            if result.status == ExecStatus.FATAL_ERROR:
                failed = failed or result
            elif preparation is not None and failed is None:
                text, name = preparation
                prepared[text] = name
        yield from _answer(pgconn)  # to the sync
    except psycopg.OperationalError as ex:
        if failed is None:
            raise
        raise error_from_result(failed) from ex
    return failed


def _answer(pgconn: PGconn) -> PQGen[PGresult]:
    """Return the next answer; without one, nothing was done that we know of."""
    results: list[PGresult] = yield from fetch_many(pgconn)
    if len(results) != 1:
        raise psycopg.OperationalError("the server does not answer any more")
    return results[0]

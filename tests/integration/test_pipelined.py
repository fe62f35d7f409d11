"""Statements that leave in one pipeline: in order, prepared once, none behind one that fails."""

from collections.abc import AsyncIterator

import psycopg
import pytest

from cdc.postgres.session import Connection
from cdc.target.action import Execute
from cdc.target.pipelined import run_pipeline
from cdc.target.session import connect_for_writing
from tests.pair import Pair

INSERT = b"insert into pg_temp.entry values ($1, $2)"
PREPARED = "select count(*)::int, count(distinct statement)::int from pg_prepared_statements"


@pytest.fixture
async def session(pair: Pair) -> AsyncIterator[Connection]:
    """A session that writes to the target, with a table of its own."""
    async with await connect_for_writing(pair.target_dsn) as connection:
        await connection.execute("create temp table entry (id int primary key, body text)")
        yield connection


def insert(number: int, body: bytes = b"x") -> Execute:
    """Insert a row."""
    return Execute(INSERT, (b"%d" % number, body))


async def rows(session: Connection) -> int:
    """Count the table's rows."""
    return int(str((await one(session, "select count(*) from pg_temp.entry"))[0]))


async def one(session: Connection, query: str) -> tuple[object, ...]:
    """Return the row of a query."""
    row = await (await session.execute(query.encode())).fetchone()
    assert row is not None
    return row


async def test_one_text_is_prepared_once(session: Connection) -> None:
    """However often it comes, in one pipeline or in several."""
    await run_pipeline(session, [insert(1), insert(2)])
    await run_pipeline(session, [insert(3)])
    assert await rows(session) == 3
    assert await one(session, PREPARED) == (1, 1)


async def test_more_than_leave_together(session: Connection) -> None:
    """Thousands of statements, and values larger than what the socket takes at once."""
    await run_pipeline(session, (insert(n, b"x" * (n % 50 * 1000)) for n in range(3_000)))
    size = "select sum(length(body))::int from pg_temp.entry"
    assert await rows(session) == 3_000
    assert await one(session, size) == (sum(n % 50 * 1000 for n in range(3_000)),)


async def test_more_than_are_prepared(session: Connection) -> None:
    """Texts beyond the limit are run all the same."""
    texts = (INSERT + b" /* %d */" % n for n in range(500))
    await run_pipeline(session, [Execute(t, (b"%d" % n, b"x")) for n, t in enumerate(texts)])
    assert await rows(session) == 500
    assert await one(session, PREPARED) == (200, 200)


@pytest.mark.parametrize("explicit", [True, False], ids=["transaction", "no transaction"])
async def test_what_fails_ends_it(session: Connection, *, explicit: bool) -> None:
    """Nothing behind it is run, not even prepared; the next pipeline finds what it needs."""
    other = INSERT + b" /* other */"
    begin = [Execute(b"begin")] if explicit else []
    with pytest.raises(psycopg.errors.UniqueViolation):
        await run_pipeline(
            session, [*begin, insert(1), insert(1), Execute(other, (b"2", b"x")), insert(3)]
        )
    await session.execute("rollback")
    assert await rows(session) == 0
    await run_pipeline(session, [insert(1), Execute(other, (b"2", b"x"))])
    assert await rows(session) == 2


async def test_what_cannot_be_prepared(session: Connection) -> None:
    """Its error comes out, and comes again."""
    for _ in range(2):
        with pytest.raises(psycopg.errors.UndefinedTable):
            await run_pipeline(session, [Execute(b"insert into nowhere values ($1)", (b"1",))])
    assert await rows(session) == 0


async def test_a_statement_before_another(session: Connection) -> None:
    """It is run first."""
    first = insert(1)
    change = Execute(b"update pg_temp.entry set body = $1", (b"y",), before=first)
    await run_pipeline(session, [change])
    assert await one(session, "select body from pg_temp.entry") == ("y",)


async def test_a_session_that_ends(session: Connection) -> None:
    """What the server says last is what is raised."""
    end = Execute(b"select pg_terminate_backend(pg_backend_pid())")
    with pytest.raises(psycopg.errors.AdminShutdown):
        await run_pipeline(session, [insert(1), end, insert(2)])

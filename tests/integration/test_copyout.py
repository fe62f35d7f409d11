"""COPY … TO STDOUT, read by hundreds of lines: all come, and the session is of use afterwards."""

from collections.abc import AsyncIterator

import psycopg
import pytest

from cdc.postgres.copyout import copy_out
from cdc.postgres.session import Connection, connect
from tests.databases import fetch
from tests.pair import Pair


async def read(connection: Connection, statement: str) -> AsyncIterator[bytes]:
    """Yield line by line."""
    async with copy_out(connection, statement.encode()) as arriving:
        async for lines in arriving:
            for line in lines:
                yield line


async def answers(connection: Connection) -> bool:
    """Tell whether the session still is the same one, and idle."""
    row = await (await connection.execute("select pg_backend_pid()")).fetchone()
    return row == (connection.info.backend_pid,)


@pytest.mark.parametrize("rows", [0, 1, 499, 500, 501, 20_000])
async def test_all_lines_in_order(pair: Pair, rows: int) -> None:
    """As many as there are, each whole and once."""
    statement = f"copy (select n, repeat('x', n % 300) from generate_series(1, {rows}) n) to stdout"
    async with await connect(pair.source_dsn) as source:
        lines = [line async for line in read(source, statement)]
        assert lines == [b"%d\t%b\n" % (n, b"x" * (n % 300)) for n in range(1, rows + 1)]
        assert await answers(source)


async def test_a_line_larger_than_any_buffer(pair: Pair) -> None:
    """It comes in one piece."""
    statement = "copy (select repeat('x', 20000000) from generate_series(1, 2)) to stdout"
    async with await connect(pair.source_dsn) as source:
        sizes = [len(line) async for line in read(source, statement)]
        assert sizes == [20_000_001] * 2


async def test_left_before_its_end(pair: Pair) -> None:
    """The statement is cancelled, and the session goes on."""
    async with await connect(pair.source_dsn) as source:
        async with copy_out(source, b"copy (select generate_series(1, 100000000)) to stdout") as c:
            async for some in c:
                assert some[0] == b"1\n"
                break
        assert await answers(source)
    working = "select count(*)::int from pg_stat_activity where query like 'copy (select gen%%'"
    assert fetch(pair.source_admin_dsn, f"{working} and state = 'active'") == [0]


async def test_left_by_an_error(pair: Pair) -> None:
    """The reader's own error comes out, not that of the cancelled statement."""
    async with await connect(pair.source_dsn) as source:
        with pytest.raises(ZeroDivisionError):
            async with copy_out(source, b"copy (select generate_series(1, 9999999)) to stdout"):
                raise ZeroDivisionError
        assert await answers(source)


async def test_refused(pair: Pair) -> None:
    """What the server does not begin says why."""
    async with await connect(pair.source_dsn) as source:
        with pytest.raises(psycopg.errors.UndefinedTable):
            async with copy_out(source, b"copy nowhere to stdout"):
                pass
        assert await answers(source)


async def test_an_error_behind_rows(pair: Pair) -> None:
    """Rows that came before it are no success."""
    seen = 0

    async def count(lines: AsyncIterator[bytes]) -> None:
        nonlocal seen
        async for _ in lines:
            seen += 1

    statement = "copy (select 1 / (5000 - n) from generate_series(1, 9000) n) to stdout"
    async with await connect(pair.source_dsn) as source:
        with pytest.raises(psycopg.errors.DivisionByZero):
            await count(read(source, statement))
        assert await answers(source)
    assert 0 < seen < 5000


async def test_a_session_that_ends(pair: Pair) -> None:
    """It is no end of the rows."""
    async with await connect(pair.source_dsn) as source:
        kill = f"select pg_terminate_backend({source.info.backend_pid})"

        async def kill_at_first(lines: AsyncIterator[bytes]) -> None:
            async for line in lines:
                if line == b"1\n":
                    fetch(pair.source_admin_dsn, kill)

        with pytest.raises(psycopg.OperationalError):
            await kill_at_first(
                read(source, "copy (select generate_series(1, 100000000)) to stdout")
            )

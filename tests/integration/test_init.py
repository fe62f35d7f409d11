"""`cdc init`: once or twice, with a copy or without, among rows of others, and cut short."""

import psycopg
import pytest

from tests.accounts import BOOK_ROWS, BOOKS
from tests.databases import fetch, migrate, run_sql, wait_until
from tests.pair import Pair, same_rows
from tests.process import ok, run_cdc, slots, spawn_cdc


@pytest.fixture
def tiny(pair: Pair) -> Pair:
    """Two databases with two tables, and rows on the source."""
    migrate(pair, BOOKS)
    run_sql(pair.source_dsn, BOOK_ROWS)
    return pair


def test_init_twice_is_harmless(tiny: Pair) -> None:
    """The second `init` changes nothing: same slot, same checkpoint, same rows."""
    ok(tiny, "init")
    state = "select lsn::text, epoch, updated_at::text from cdc.checkpoint"
    before = fetch(tiny.target_dsn, state)
    (slot,) = slots(tiny)
    run_sql(tiny.source_dsn, "update credit.account set note = 'y'")
    ok(tiny, "init")
    assert fetch(tiny.target_dsn, state) == before
    assert slots(tiny)[0]["confirmed_flush_lsn"] == slot["confirmed_flush_lsn"]
    ok(tiny, "run", "--until-current")
    assert same_rows(tiny) == {"account": 5, "entry": 5}


def test_init_without_a_copy(tiny: Pair) -> None:
    """A slot, the rows by other means, `init --no-snapshot`: the stream begins at the slot."""
    ok(tiny, "slot", "create")
    run_sql(tiny.target_dsn, BOOK_ROWS)
    refused = run_cdc(tiny, "init")
    assert refused.returncode == 78
    run_sql(tiny.source_dsn, "update credit.account set note = 'y'")
    ok(tiny, "init", "--no-snapshot")
    run_sql(tiny.source_dsn, "delete from credit.entry where id = 1")
    ok(tiny, "run", "--until-current")
    assert same_rows(tiny) == {"account": 5, "entry": 4}
    assert fetch(tiny.target_dsn, "select sum(rows)::int from cdc.copy") == [0]


def test_init_with_rows_on_the_target(tiny: Pair) -> None:
    """Rows of somebody else are refused with 78 and named by table; nothing is left behind."""
    run_sql(tiny.target_dsn, "insert into credit.account values (7, 'own')")
    result = run_cdc(tiny, "init")
    assert result.returncode == 78
    assert "credit.account" in result.stderr
    assert "truncate" in result.stderr
    assert slots(tiny) == []
    assert fetch(tiny.source_dsn, "select pubname from pg_publication") == []
    assert fetch(tiny.target_dsn, "select id from credit.account") == [7]


def test_init_killed_in_the_middle_of_the_copy(tiny: Pair) -> None:
    """The next run goes on with the chunks that have no mark, and ends equal."""
    run_sql(
        tiny.source_dsn, "insert into credit.account select n, 'x' from generate_series(9, 50000) n"
    )
    small = {"CDC_SNAPSHOT_WORKERS": "1", "CDC_SNAPSHOT_CHUNK_BYTES": "8192"}
    copied = "select count(copied_at)::int, count(*)::int from cdc.snapshot_chunk"
    with spawn_cdc(tiny, "init", env=small) as command:
        wait_until(lambda: (fetch_if_there(tiny.target_dsn, copied) or [0])[0] not in {0, 1})
        command.kill()
    done, chunks = fetch(tiny.target_dsn, copied)
    assert 1 < int(str(done)) < int(str(chunks))
    first = "select copied_at::text from cdc.snapshot_chunk where copied_at is not null order by 1"
    marked = fetch(tiny.target_dsn, first)
    run_sql(tiny.source_dsn, "delete from credit.entry where id < 3")
    run_sql(tiny.source_dsn, "update credit.account set note = 'later' where id % 100 = 1")
    with spawn_cdc(tiny, "init", env=small) as command:
        wait_until(lambda: len(fetch(tiny.target_dsn, first)) > len(marked))
        command.kill()
    assert fetch(tiny.target_dsn, first)[: len(marked)] == marked
    ok(tiny, "run", "--until-current")
    assert same_rows(tiny) == {"account": 49997, "entry": 3}
    assert len(slots(tiny)) == 1


def fetch_if_there(dsn: str, query: str) -> list[object]:
    """Give the values of a query's rows; none where the table is not there yet."""
    try:
        return fetch(dsn, query)
    except psycopg.errors.UndefinedTable:
        return []


def test_init_says_whom_it_waits_for(tiny: Pair) -> None:
    """A slot waits for transactions that are writing already: the log names the oldest."""
    with psycopg.connect(tiny.source_dsn, application_name="slow job") as writer:
        writer.execute("insert into credit.account values (99, 'z')")
        with spawn_cdc(tiny, "init") as command:
            command.wait_for_log("slow job")
            writer.commit()
            assert command.process.wait(20) == 0, command.log()


def test_init_of_a_key_that_has_no_collation(pair: Pair) -> None:
    """A "char" is ordered like a number: no chunk is cut by a collation of it."""
    columns = 'kind "char", id int, body text, primary key (kind, id)'
    migrate(pair, f"create schema credit; create table credit.t ({columns})")
    kinds = """(array['a', 'b', 'c'])[n % 3 + 1]::"char\""""
    body = "(select string_agg(md5(i::text), '') from generate_series(1, 100) i)"
    rows = f"insert into credit.t select {kinds}, n, {body} from generate_series(1, 300) n"
    run_sql(pair.source_dsn, rows)
    small = {"CDC_SNAPSHOT_CHUNK_BYTES": "16384"}
    result = run_cdc(pair, "init", env=small)
    assert result.returncode == 0, result.stderr
    assert same_rows(pair) == {"t": 300}


def test_resync_at_a_target_of_an_older_version(tiny: Pair) -> None:
    """Before a new daemon has been there: the other tables are known as copied all the same."""
    ok(tiny, "init")
    run_sql(tiny.target_dsn, "drop table cdc.snapshot_chunk, cdc.copy")
    run_sql(tiny.target_dsn, "alter table cdc.checkpoint drop claimed_by")
    run_sql(tiny.target_dsn, "delete from credit.entry where id = 1")
    ok(tiny, "resync", "credit.entry")
    ok(tiny, "run", "--until-current")
    assert same_rows(tiny) == {"account": 5, "entry": 5}

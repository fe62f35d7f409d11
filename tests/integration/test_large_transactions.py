"""Transactions larger than a batch: whole on the target or not there at all, in bounded memory."""

import threading

import psycopg

from tests.databases import migrate
from tests.pair import Pair, same_rows
from tests.process import ok, run_cdc, spawn_cdc

SMALL_BATCHES = {"CDC_APPLY_MAX_ROWS": "1000"}

TABLE = """
create schema credit;
create table credit.entry (id bigint primary key, unit int unique, body text);
"""


def test_ends_exactly_at_the_limit(pair: Pair) -> None:
    """A transaction of as many changes as a batch holds is committed, though no change follows."""
    prepare(pair)
    insert(pair, 1, 1000)
    drain(pair)
    assert same_rows(pair) == {"entry": 1000}


def test_is_seen_whole_or_not_at_all(pair: Pair) -> None:
    """Readers of the target never see a part of it, while it is applied in many batches."""
    prepare(pair)
    seen: set[int] = set()
    done = threading.Event()

    def watch() -> None:
        with psycopg.connect(pair.target_dsn, autocommit=True) as target:
            while not done.is_set():
                row = target.execute("select count(*) from credit.entry").fetchone()
                assert row is not None
                seen.add(row[0])

    reader = threading.Thread(target=watch)
    reader.start()
    try:
        insert(pair, 1, 30_000)
        drain(pair)
    finally:
        done.set()
        reader.join()
    assert seen <= {0, 30_000}
    assert same_rows(pair) == {"entry": 30_000}


def test_updates_and_deletes_its_own_rows(pair: Pair) -> None:
    """What one batch of it inserts, later ones update, move to another key and delete."""
    prepare(pair)
    with psycopg.connect(pair.source_dsn) as source:
        source.execute(
            "insert into credit.entry select n, n, 'first' from generate_series(1, 5000) n"
        )
        source.execute("update credit.entry set body = 'second' where id % 2 = 0")
        source.execute("update credit.entry set id = id + 10000 where id % 5 = 0")
        source.execute("delete from credit.entry where id % 3 = 0")
        source.execute(
            "insert into credit.entry select n, -n, 'third' from generate_series(1, 9) n"
            " on conflict do nothing"
        )
    drain(pair)
    same_rows(pair)


def test_unique_values_that_swap_owners_inside_it(pair: Pair) -> None:
    """A part that the target refuses set by set is replayed behind the parts before it."""
    prepare(pair)
    with psycopg.connect(pair.source_dsn) as source:
        source.execute("insert into credit.entry select n, n, 'a' from generate_series(1, 3000) n")
        for one, other in ((10, 20), (2010, 2020)):
            source.execute("update credit.entry set unit = null where id = %s", (one,))
            source.execute("update credit.entry set unit = %s where id = %s", (one, other))
            source.execute("update credit.entry set unit = %s where id = %s", (other, one))
    drain(pair)
    same_rows(pair)


def test_a_reference_to_a_row_of_a_later_part(pair: Pair) -> None:
    """What the source checks at the commit may be broken between the parts of a transaction."""
    migrate(
        pair,
        f"{TABLE} alter table credit.entry add parent int references credit.entry (unit) deferrable"
        " initially deferred",
    )
    ok(pair, "init")
    with psycopg.connect(pair.source_dsn) as source:
        source.execute(
            "insert into credit.entry select n, n, 'a', case when n % 500 = 7 then 6000 - n end"
            " from generate_series(1, 6000) n"
        )
    drain(pair)
    assert same_rows(pair) == {"entry": 6000}


def test_values_larger_than_a_block(pair: Pair) -> None:
    """Values of megabytes, plain or full of what COPY escapes, between rows that are small."""
    prepare(pair)
    with psycopg.connect(pair.source_dsn) as source:
        source.execute(
            "insert into credit.entry select n, n, case when n % 10 = 0"
            r" then repeat(E'a\\b\tc\nd\re' || md5(n::text), n * 2000) else 'small' end"
            " from generate_series(1, 60) n"
        )
        source.execute("update credit.entry set body = repeat('x', 3000000) where id = 5")
    drain(pair)
    assert same_rows(pair) == {"entry": 60}


def test_survives_a_kill_in_its_middle(pair: Pair) -> None:
    """Killed between its batches, the target shows nothing of it, and the next run all of it."""
    prepare(pair)
    insert(pair, 1, 60_000)
    with spawn_cdc(pair, "run", env=SMALL_BATCHES) as daemon:
        daemon.wait_for_log("streaming")
        daemon.kill()
    with psycopg.connect(pair.target_dsn) as target:
        row = target.execute("select count(*) from credit.entry").fetchone()
    assert row in {(0,), (60_000,)}
    drain(pair)
    assert same_rows(pair) == {"entry": 60_000}


def prepare(pair: Pair) -> None:
    """Make the table on both sides and the pair ready to stream."""
    migrate(pair, TABLE)
    ok(pair, "init")


def insert(pair: Pair, first: int, last: int) -> None:
    """Insert rows in one transaction of the source."""
    with psycopg.connect(pair.source_dsn) as source:
        source.execute(
            "insert into credit.entry"
            " select n, n, 'row ' || n from generate_series(%s::int, %s::int) n",
            (first, last),
        )


def drain(pair: Pair) -> None:
    """Bring the target up to date, a thousand changes at a time."""
    result = run_cdc(pair, "run", "--until-current", env=SMALL_BATCHES)
    assert result.returncode == 0, result.stderr

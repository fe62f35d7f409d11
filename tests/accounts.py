"""The credit schema of a test that is about the daemon and not about the schema.

`SCHEMA` is one table that is filled, written, locked and counted; `BOOKS` are two tables, one of
which refers to the other. What a test needs beyond these it makes itself.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from tests.databases import fetch
from tests.pair import Pair

SCHEMA = """
create schema credit;
create table credit.account (id int primary key, balance int not null, note text);
"""

INSERT = (
    "insert into credit.account select n, 0, 'row ' || n from generate_series(%s::int, %s::int) n"
)

BOOKS = """
create schema credit;
create table credit.account (id int primary key, note text);
create table credit.entry
  (id int primary key, account int references credit.account deferrable);
"""
BOOK_ROWS = """
insert into credit.account select n, 'x' from generate_series(1, 5) n;
insert into credit.entry select n, n from generate_series(1, 5) n;
"""


def rows(pair: Pair) -> int:
    """Count the rows on the target."""
    return len(fetch(pair.target_dsn, "select id from credit.account"))


@contextmanager
def writing(pair: Pair, *also: str) -> Iterator[None]:
    """Write small transactions, one after the other, until the block is left.

    `also` are statements that each of them has besides, with its number as their parameter.
    """
    done = threading.Event()

    def write() -> None:
        with psycopg.connect(pair.source_dsn) as source:
            for n in range(1, 1_000_000):
                source.execute(INSERT, (n * 10, n * 10 + 9))
                source.execute("update credit.account set balance = %s where id %% 7 = 3", (n,))
                for statement in also:
                    source.execute(statement, (n,))
                source.commit()
                if done.wait(0.005):
                    return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        done.set()
        writer.join()


@contextmanager
def locked(dsn: str) -> Iterator[None]:
    """Keep writers, not readers, out of the table."""
    with psycopg.connect(dsn) as connection:
        connection.execute("lock table credit.account in share mode")
        yield

"""A pair whose target goes away while the daemon queues: its schema, its settings, its changes.

What a test is about, and when the target comes back, it says itself.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.databases import fetch, run_sql, wait_until
from tests.pair import Pair
from tests.process import Daemon, streaming
from tests.servers import stoppable

ROOM = {"CDC_SPOOL_MAX_BYTES": "100000000"}
SPOOL = ROOM | {"CDC_SPOOL_AFTER": "0.3"}
KEY = {"CDC_SPOOL_KEY": "a key of more than sixteen letters"}

QUEUEING = "streaming by way of the spool"
DRAINED = "all that was queued is applied"

# A row of `log` has no key: applied twice, it is there twice.
SCHEMA = """
create schema credit;
create table credit.account (id int primary key, balance int not null, note text);
create table credit.log (account int, note text);
alter table credit.log replica identity full;
"""


@contextmanager
def queueing(pair: Pair, more: dict[str, str] | None = None) -> Iterator[Daemon]:
    """Run a daemon that has streamed, and whose target has then gone away."""
    with streaming(pair, SPOOL | (more or {})) as daemon:
        stoppable(pair.target).stop()
        insert(pair, 1_000_000, 1_000_000)
        daemon.wait_for_log(QUEUEING)
        run_sql(pair.source_dsn, "delete from credit.account; delete from credit.log")
        yield daemon


@contextmanager
def writing(pair: Pair) -> Iterator[None]:
    """Write small transactions, one after the other, until the block is left."""
    done = threading.Event()

    def write() -> None:
        with psycopg.connect(pair.source_dsn) as source:
            for n in range(1, 1_000_000):
                source.execute("insert into credit.account values (%s, 0, 'x')", (n,))
                source.execute("update credit.account set balance = balance + 1 where id < 5")
                source.execute("insert into credit.log values (%s, 'x')", (n,))
                source.commit()
                if done.wait(0.01):
                    return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        done.set()
        writer.join()


def insert(pair: Pair, first: int, last: int, *, each: int | None = None) -> None:
    """Insert rows into both tables: in one transaction, or in several of `each` rows."""
    with psycopg.connect(pair.source_dsn) as source:
        for start in range(first, last + 1, each or last):
            bounds = (start, min(start + (each or last) - 1, last))
            series = "from generate_series(%s::int, %s::int) n"
            source.execute(f"insert into credit.account select n, 0, 'row ' || n {series}", bounds)
            source.execute(f"insert into credit.log select n, 'row ' || n {series}", bounds)
            source.commit()


def wait_until_let_go(pair: Pair) -> None:
    """Wait until the slot is confirmed beyond all that is committed now."""
    emit = "select pg_logical_emit_message(true, 'test', '')::text"
    (written,) = fetch(pair.source_dsn, emit)
    query = "select confirmed_flush_lsn > %s::pg_lsn from pg_replication_slots where slot_name = %s"
    wait_until(lambda: fetch(pair.source_dsn, query, written, pair.slot) == [True])


def spool(pair: Pair) -> Path:
    """Give the spool's file; what a daemon that was killed left in its log is brought into it."""
    (file,) = pair.state_dir.glob("*.spool")
    database = sqlite3.connect(file)
    database.execute("pragma wal_checkpoint(truncate)")
    database.close()
    return file

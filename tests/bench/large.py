"""`large`: one transaction of millions of rows, and small ones behind it, with readers meanwhile.

While the daemon drains them, readers of the target look all the time: the large transaction is
there whole or not at all, and each small one only behind all that were committed before it.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg

from cdc.demo.display import Display
from tests.bench.rig import drain, prepared, verify
from tests.bench.workloads import bookings
from tests.pair import Pair

ROWS = 5_000_000

SMALL = 100
"""Transactions behind the large one, of a row each."""

SAMPLES = 200
"""Rows of the large transaction that a reader looks for, spread over all of it."""

_SMALL_MARK = "small"

_SMALL_INSERT = f"""
insert into credit.transactions (account_id, external_id, kind, amount, currency, value_on)
select id, '{_SMALL_MARK}-' || %s::int, 'fee', %s, 'EUR', date '2026-02-01'
from credit.credit_accounts limit 1
"""

# One statement, so one snapshot: the sampled rows of the large transaction, and the small ones.
_LOOK = f"""
select (select count(*) from credit.transactions where external_id = any(%s)),
       (select count(*) from credit.transactions where external_id = any(%s)),
       (select coalesce(max(split_part(external_id, '-', 2)::int), 0) from credit.transactions
         where external_id = any(%s) and external_id like '{_SMALL_MARK}-%%')
"""


@dataclass(slots=True)
class Figures:
    """What was measured; the fields are those of `--json`."""

    rows: int
    seconds: float
    rows_per_second: float
    peak_rss_bytes: int
    cpu_s: float
    looks: int
    """How often a reader looked and saw all of it or nothing."""
    verified_rows: int


@dataclass(slots=True)
class Reader:
    """Looks at the target from a session of its own."""

    rows: int
    looks: int = 0
    wrong: list[str] = field(default_factory=list)

    def look(self, connection: psycopg.Connection) -> None:
        """Look once, and note what must never be seen."""
        sampled = [f"bench-{1 + n * (self.rows - 1) // (SAMPLES - 1)}" for n in range(SAMPLES)]
        small = [f"{_SMALL_MARK}-{n}" for n in range(1, SMALL + 1)]
        row = connection.execute(_LOOK, (sampled, small, small)).fetchone()
        assert row is not None
        there, later, last = row
        self.looks += 1
        if there not in {0, len(set(sampled))}:
            self.wrong.append(f"{there} of {SAMPLES} rows of the large transaction")
        if later and not there:
            self.wrong.append("a later transaction before the large one")
        if later != last:
            self.wrong.append(f"transaction {last} with {later - 1} of those before it")


def run(rows: int, display: Display) -> Figures:
    """Build the backlog, drain it, compare both sides."""
    with prepared(display) as pair:
        _build(pair, rows, display)
        reader = Reader(rows)
        total = _size(pair.source_dsn)

        def watch() -> None:
            share = min(1.0, _size(pair.target_dsn) / total)
            display.show("draining", f"{share:.0%}", share)

        with looking(reader, pair):
            drained = drain(pair, watch)
        assert not reader.wrong, f"readers of the target saw {reader.wrong[:3]}"
        display.say(f"drained in {drained.seconds:.1f} s; now comparing every row")
        tables = verify(pair, display)
        display.say("equal on both sides")
    return Figures(
        rows=rows,
        seconds=drained.seconds,
        rows_per_second=rows / drained.seconds,
        peak_rss_bytes=drained.peak_rss_bytes,
        cpu_s=drained.cpu_s,
        looks=reader.looks,
        verified_rows=sum(counts.source_rows for counts in tables.values()),
    )


def _build(pair: Pair, rows: int, display: Display) -> None:
    """Commit the transactions on the source."""
    display.show("building", f"one transaction of {rows:,} rows")
    since = time.monotonic()
    with psycopg.connect(pair.source_dsn) as source:
        source.execute(bookings("1", str(rows)).encode())
        source.commit()
        for n in range(1, SMALL + 1):
            source.execute(_SMALL_INSERT, (n, n))
            source.commit()
    display.say(f"one transaction of {rows:,} rows, built in {time.monotonic() - since:.1f} s")


def _size(dsn: str) -> int:
    """Bytes of the table's file: it grows with what is not committed yet."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute("select pg_relation_size('credit.transactions')").fetchone()
    assert row is not None
    return int(row[0])


@contextmanager
def looking(reader: Reader, pair: Pair) -> Iterator[None]:
    """Look again and again until the block is left, and once more behind it."""
    done = threading.Event()

    def look() -> None:
        with psycopg.connect(pair.target_dsn, autocommit=True) as connection:
            while not done.wait(0.02):
                reader.look(connection)
            reader.look(connection)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()

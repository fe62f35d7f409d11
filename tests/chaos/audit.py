"""The audit: transactions that number themselves, and a reader of the target that counts them.

A writer commits one transaction after the other: number N, a few rows of `credit.audit` that say
how many they are, as many of `credit.audit_bare`, which has no key, and a transfer between two
accounts. So whoever reads the target can tell by what is there: a number that is missing below the
highest (lost), a row that is there twice (doubled), a transaction of which a part is missing (half
seen).
"""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg

SCHEMA = """
create schema credit;
create table credit.audit (tx int, n int, rows int, body text, primary key (tx, n));
create table credit.audit_bare (tx int, n int);
alter table credit.audit_bare replica identity full;
create table credit.account (id int primary key, balance numeric(20,4) not null, note text);
create table credit.entry (
    id int primary key, account int not null references credit.account, amount numeric
);
"""

ACCOUNTS = 200

FILL = f"""
insert into credit.account select n, 1000, repeat('x', 3000) from generate_series(1, {ACCOUNTS}) n;
"""

_LOOK = f"""
with t as (select tx, count(*) as found, max(rows) as rows from credit.audit group by tx),
     b as (select tx, count(*) as found, count(distinct n) as single
             from credit.audit_bare group by tx)
select coalesce(max(t.tx), 0), coalesce(max(t.tx), 0) - count(*),
       coalesce(sum((b.found > b.single)::int), 0),
       coalesce(sum((t.found <> t.rows or b.single is distinct from t.rows)::int), 0)
         + (select (sum(balance) is distinct from {ACCOUNTS} * 1000)::int from credit.account)
  from t full join b using (tx)
"""

_COPIED = "select count(*) > 0 and bool_and(completed_at is not null) from cdc.copy"


@dataclass(slots=True)
class Seen:
    """What the reader has seen, at worst."""

    looks: int = 0
    highest: int = 0
    lost: int = 0
    doubled: int = 0
    half: int = 0
    went_back: int = 0
    """A look found less than the one before, where nothing was restored."""


@dataclass(slots=True)
class Writer:
    """Commits transactions on the source until it is told to stop."""

    dsn: str
    seed: int
    rate: float = 300.0
    """Transactions a second, about."""
    large_share: float = 0.002
    """Of the transactions, so many are large."""
    large_rows: int = 3000
    committed: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _pause: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Write; a source that is away is waited for, an unknown COMMIT looked up."""
        chance = random.Random(self.seed)
        while not self._stop.is_set():
            try:
                with psycopg.connect(self.dsn, autocommit=True, connect_timeout=5) as source:
                    row = source.execute("select coalesce(max(tx), 0) from credit.audit").fetchone()
                    assert row is not None
                    self.committed = int(row[0])
                    while not self._stop.is_set():
                        self._write(source, self.committed + 1, chance)
                        self.committed += 1
            except psycopg.Error:
                self._stop.wait(0.1)

    def _write(self, source: psycopg.Connection, tx: int, chance: random.Random) -> None:
        large = chance.random() < self.large_share
        rows = self.large_rows if large else chance.randint(1, 4)
        one, other = chance.sample(range(1, ACCOUNTS + 1), 2)
        amount = chance.randint(1, 100)
        with source.transaction():
            source.execute(
                "insert into credit.audit select %s, n, %s, md5(n::text)"
                " from generate_series(1, %s) n",
                (tx, rows, rows),
            )
            source.execute(
                "insert into credit.audit_bare select %s, n from generate_series(1, %s) n",
                (tx, rows),
            )
            source.execute(
                "update credit.account set balance = balance + case id when %s then %s else -%s end"
                " where id in (%s, %s)",
                (one, amount, amount, one, other),
            )
            source.execute("insert into credit.entry values (%s, %s, %s)", (tx, one, amount))
        self._stop.wait(chance.expovariate(self.rate))

    def stop(self) -> None:
        """Write no more."""
        self._stop.set()


@contextmanager
def writing(writer: Writer) -> Iterator[Writer]:
    """Write beside the block."""
    thread = threading.Thread(target=writer.run)
    thread.start()
    try:
        yield writer
    finally:
        writer.stop()
        thread.join()


class Reader:
    """Looks at the target again and again, as an application would; notes the worst."""

    def __init__(self, dsn: str, *, whole: bool = True) -> None:
        """`whole`: the target holds whole states; else it does once its first copies are made."""
        self._dsn = dsn
        self._whole = whole
        self._done = threading.Event()
        self.seen = Seen()

    def run(self) -> None:
        """Look until told to stop; a target that is away is looked at later."""
        while not self._done.is_set():
            try:
                with psycopg.connect(self._dsn, autocommit=True, connect_timeout=5) as target:
                    while not self._done.wait(0.02):
                        self._look(target)
            except psycopg.Error:
                self._done.wait(0.1)

    def _look(self, target: psycopg.Connection) -> None:
        self._whole = self._whole or _copied(target)
        row = target.execute(_LOOK).fetchone()
        assert row is not None
        highest, lost, doubled, half = (int(value) for value in row)
        seen = self.seen
        seen.doubled = max(seen.doubled, doubled)
        if not self._whole:
            return
        seen.looks += 1
        seen.lost = max(seen.lost, lost)
        seen.half = max(seen.half, half)
        seen.went_back = max(seen.went_back, seen.highest - highest)
        seen.highest = max(seen.highest, highest)

    def stop(self) -> None:
        """Look no more."""
        self._done.set()


def _copied(target: psycopg.Connection) -> bool:
    """Tell whether all first copies are made."""
    try:
        row = target.execute(_COPIED).fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return False
    return row is not None and bool(row[0])


@contextmanager
def reading(dsn: str, *, whole: bool = True) -> Iterator[Reader]:
    """Look beside the block."""
    reader = Reader(dsn, whole=whole)
    thread = threading.Thread(target=reader.run)
    thread.start()
    try:
        yield reader
    finally:
        reader.stop()
        thread.join()

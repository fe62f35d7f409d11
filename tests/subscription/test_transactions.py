"""Transactions of every kind, in the manner of 020_messages.pl, 021_twophase.pl and others."""

import threading

import psycopg

from tests.oracle import make_trio
from tests.pair import Pair
from tests.servers import on_every_version

TABLE = "create table credit.t (id int primary key, n int)"
OTHER = "create table credit.u (id int primary key, n int)"


@on_every_version
def test_prepared_transactions(pair: Pair) -> None:
    """They count when they are committed; one that is rolled back leaves nothing."""
    name = pair.slot
    with make_trio(pair, TABLE) as trio:
        with psycopg.connect(pair.source_dsn, autocommit=True) as source:
            for n in range(3):
                source.execute("begin")
                source.execute(f"insert into credit.t values ({n}, 0)".encode())
                source.execute("update credit.t set n = n + 1")
                source.execute(f"prepare transaction '{name}_{n}'".encode())
                source.execute(f"insert into credit.t values ({n + 10}, 0)".encode())
                end = "rollback" if n == 1 else "commit"
                source.execute(f"{end} prepared '{name}_{n}'".encode())
        assert trio.compare() == {"credit.t": 5}


def test_transactions_that_change_nothing_published(pair: Pair) -> None:
    """Empty ones, messages inside and outside of transactions, tables of other schemas."""
    with make_trio(pair, TABLE) as trio:
        trio.commit_each(
            "select 1",
            "create table public.elsewhere as select generate_series(1, 100)",
            "select pg_logical_emit_message(true, 'other', 'inside')",
            "select pg_logical_emit_message(false, 'cdc', 'outside')",
            "insert into credit.t values (1, 1)",
        )
        trio.change(
            "insert into credit.t values (2, 2)",
            "select pg_logical_emit_message(true, 'cdc', 'amid')",
            "select pg_logical_emit_message(false, 'cdc', 'amid')",
            "update credit.t set n = 0 where id = 1",
            "insert into public.elsewhere values (1)",
        )
        trio.change("delete from credit.t where id = 77", "update credit.t set n = 1 where false")
        assert trio.compare() == {"credit.t": 2}


def test_subtransactions_in_thousands(pair: Pair) -> None:
    """Released and rolled back by turns, deeply nested, over two tables."""
    with make_trio(pair, TABLE, OTHER) as trio:
        trio.change(
            "do $$ begin for i in 1..3000 loop begin"
            " insert into credit.t values (i, 0); update credit.u set n = n + 1 where id = i - 1;"
            " insert into credit.u values (i, i);"
            " if i % 3 = 0 then raise exception 'back'; end if;"
            " exception when raise_exception then null; end; end loop; end $$"
        )
        trio.change(
            *(f"savepoint s{n}; insert into credit.t values ({-n}, {n})" for n in range(1, 60)),
            "rollback to s30",
            "insert into credit.t values (-30, 0)",
            "release s10",
        )
        assert trio.compare() == {"credit.t": 2030, "credit.u": 2000}


def test_transactions_that_overlap(pair: Pair) -> None:
    """Their changes interleave in the WAL; they arrive one after the other, as they committed."""
    with make_trio(pair, TABLE) as trio:
        trio.change("insert into credit.t select n, 0 from generate_series(0, 40) n")

        def work(worker: int) -> None:
            with psycopg.connect(pair.source_dsn, autocommit=True) as source:
                for n in range(40):
                    with source.transaction():
                        source.execute(
                            "update credit.t set n = n * 3 + %s where id = %s", (worker, n)
                        )
                        source.execute("insert into credit.t values (%s, 0)", (1000 * worker + n,))
                        if n % 4 == 0:
                            source.execute(
                                "delete from credit.t where id = %s", (1000 * worker + n,)
                            )

        workers = [threading.Thread(target=work, args=(worker,)) for worker in range(1, 6)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert trio.compare() == {"credit.t": 41 + 5 * 30}

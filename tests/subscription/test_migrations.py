"""Tables that change while their rows are in the stream: the catalog is ahead of what is read."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.databases import fetch, wait_until
from tests.oracle import make_trio, rows, run
from tests.pair import Pair
from tests.process import Daemon, run_cdc, streaming
from tests.servers import TARGET_ROLE, only_pgoutput

TABLE = "create table credit.t (id int primary key, n int, b text)"
BIG = "(select string_agg(md5(i::text), '') from generate_series(1, 500) i)"
FILL = f"insert into credit.t select n, n, {BIG} from generate_series(1, 40) n"


def test_a_column_that_is_added(pair: Pair) -> None:
    """Rows from before do without it, rows from after have it, also as TOAST that stays."""
    with make_trio(pair, TABLE) as trio:
        trio.change(FILL)
        trio.commit_each("update credit.t set n = n + 1", "delete from credit.t where id = 7")
        trio.everywhere("alter table credit.t add c text")
        trio.commit_each(
            "insert into credit.t values (100, 1, 'b', 'c')",
            f"update credit.t set c = {BIG} where id < 20",
            "update credit.t set n = n + 1",
            "update credit.t set id = id + 1000 where id < 5",
        )
        trio.compare()
        trio.everywhere("alter table credit.t add d text not null default 'd'")
        trio.commit_each(
            "update credit.t set d = 'e' where id < 20", FILL.replace("1, 40", "50, 60")
        )
        trio.compare()


def test_a_column_and_its_rows_in_one_transaction(pair: Pair) -> None:
    """A migration that adds a column and fills it at once."""
    with make_trio(pair, TABLE) as trio:
        trio.change(FILL)
        trio.compare()
        for dsn in (trio.oracle_dsn, pair.target_dsn):
            run(dsn, "alter table credit.t add c numeric(20,4)")
        trio.change(
            "update credit.t set n = 0 where id < 5",
            "alter table credit.t add c numeric(20,4)",
            "update credit.t set c = id * 1.0001",
        )
        trio.compare()


def test_a_toast_column_that_is_dropped(pair: Pair) -> None:
    """What is no longer there is not taken for a value that stays, from the first row on."""
    with make_trio(pair, TABLE) as trio:
        trio.change(FILL)
        trio.change("update credit.t set n = n + 1")
        trio.compare()
        trio.everywhere("alter table credit.t drop b")
        trio.change("update credit.t set n = n + 1", "update credit.t set id = -id where id < 9")
        trio.compare()


def test_a_column_that_gets_another_name(pair: Pair) -> None:
    """The new name from its first row on, and TOAST values stay under it."""
    with make_trio(pair, TABLE) as trio:
        trio.change(FILL)
        trio.compare()
        trio.everywhere("alter table credit.t rename b to c")
        trio.commit_each(
            "update credit.t set n = n + 1", "update credit.t set c = 'x' where id < 9"
        )
        trio.compare()


def test_a_name_that_another_column_gets(pair: Pair) -> None:
    """Two columns that swap their names, in one transaction with rows before and after."""
    with make_trio(pair, "create table credit.t (id int primary key, a text, b text)") as trio:
        trio.change(f"insert into credit.t select n, {BIG}, 'b' from generate_series(1, 20) n")
        trio.compare()
        swap = (
            "alter table credit.t rename a to c",
            "alter table credit.t rename b to a",
            "alter table credit.t rename c to b",
        )
        trio.everywhere(*swap)
        trio.commit_each("update credit.t set a = 'now a'", "update credit.t set id = id + 100")
        trio.compare()


def test_a_column_that_is_generated_no_more(pair: Pair) -> None:
    """From then on its values are the source's, also in the very transaction that changes it."""
    with make_trio(
        pair,
        "create table credit.t (id int primary key, n int,"
        " g int generated always as (n * 2) stored)",
    ) as trio:
        trio.change("insert into credit.t (id, n) select n, n from generate_series(1, 40) n")
        trio.compare()
        drop = "alter table credit.t alter g drop expression"
        for dsn in (trio.oracle_dsn, pair.target_dsn):
            run(dsn, drop)
        trio.change("update credit.t set n = 5 where id = 5", drop, "update credit.t set g = 7")
        trio.change("insert into credit.t values (100, 1, 1)")
        trio.compare()


def test_a_key_that_becomes_another(pair: Pair) -> None:
    """Rows from before are told apart by the key of their time, not by today's."""
    narrow = "alter table credit.t drop constraint t_pkey, add primary key (id)"
    wide = "alter table credit.t drop constraint t_pkey, add primary key (id, seq)"
    with make_trio(
        pair, "create table credit.t (id int, seq int, v text, primary key (id, seq))"
    ) as trio:
        with streaming(pair) as daemon:
            with paused(daemon):
                trio.change(
                    "insert into credit.t select n, m, 'x'"
                    " from generate_series(1, 9) n, generate_series(1, 3) m"
                )
                trio.change("update credit.t set v = 'y' where seq = 1")
                trio.change("update credit.t set seq = 5 where seq = 1 and id = 5")
                trio.change("delete from credit.t where seq in (2, 3)")
                run(pair.source_dsn, narrow)
            wait_until(lambda: fetch(pair.target_dsn, "select from credit.t where seq = 5") != [])
        trio.wait_for_oracle()
        for dsn in (trio.oracle_dsn, pair.target_dsn):
            run(dsn, narrow)
        trio.change("update credit.t set seq = seq + 1", "update credit.t set id = 50 where id = 4")
        trio.compare()
        for dsn in (trio.oracle_dsn, pair.target_dsn):
            run(dsn, wide)
        trio.change(wide, "insert into credit.t values (1, 9), (1, 8)")
        trio.change("delete from credit.t where seq = 8")
        trio.compare()


@only_pgoutput
@pytest.mark.parametrize("count", [2, 60])
def test_a_key_that_becomes_wider_where_the_whole_row_is_sent(pair: Pair, count: int) -> None:
    """Nobody sends what the key is: a daemon that runs on takes no two rows for one, or ends.

    It knows the new key when it starts again.
    """
    fill = f"insert into credit.{{0}} select n, {{1}} from generate_series(1, {count}) n"
    changes = {
        "inserts": (fill, fill.replace("{1}", "3")),
        "deletes": (fill, "delete from credit.{0} where seq = 2 and id > 1"),
        "one_row": (fill.replace("{1}", "4"), "delete from credit.{0} where seq = 1"),
        "moves": (fill, "update credit.{0} set id = -id where seq = 2 and id < 30"),
        "updates": (fill, "update credit.{0} set v = 'x'"),
    }
    tables = [
        f"create table credit.{name} (id int primary key, seq int not null, v text);"
        f"alter table credit.{name} replica identity full"
        for name in changes
    ]
    with make_trio(pair, *tables) as trio:
        for name, statements in changes.items():
            trio.change(fill.format(name, 1))
            trio.compare()
            with streaming(pair) as daemon:
                trio.change(f"insert into credit.{name} values (0, 0)")
                wait_for_row(daemon, pair, f"credit.{name} where seq = 0")
                trio.wait_for_oracle()
                trio.everywhere(
                    f"alter table credit.{name} drop constraint {name}_pkey,"
                    " add primary key (id, seq)"
                )
                trio.change(*(statement.format(name, 2) for statement in statements))
                trio.change(f"insert into credit.{name} values (0, 1)")
                wait_for_row(daemon, pair, f"credit.{name} where id = 0 and seq = 1")
            trio.compare()


def wait_for_row(daemon: Daemon, pair: Pair, where: str) -> None:
    """Wait until the target has a row, or the daemon has ended."""
    query = f"select from {where}"
    wait_until(lambda: daemon.process.poll() is not None or fetch(pair.target_dsn, query) != [])


def test_a_replica_identity_that_changes(pair: Pair) -> None:
    """The whole row, the key and the whole row again, with changes of each in the stream."""
    with make_trio(pair, TABLE) as trio:
        trio.change(FILL)
        for identity in ("full", "default", "full"):
            trio.change(
                "update credit.t set n = n + 1 where id < 10",
                f"alter table credit.t replica identity {identity}",
                "update credit.t set n = n + 1",
                "update credit.t set id = id + 100 where id % 100 = 3",
            )
            trio.commit_each(
                "delete from credit.t where id % 100 = 7", FILL.replace("1, 40", "7, 7")
            )
        trio.compare()


def test_a_table_that_is_gone(pair: Pair) -> None:
    """Its rows in the stream go to the target's table, which is still there."""
    with make_trio(pair, TABLE, "create table credit.gone (id int primary key, b text)") as trio:
        trio.commit_each(
            f"insert into credit.gone values (1, 'x'), (2, {BIG})",
            "update credit.gone set id = 3 where id = 2",
            "delete from credit.gone where id = 1",
            "drop table credit.gone",
        )
        result = run_cdc(pair, "run", "--until-current")
        assert result.returncode == 0, result.stderr
        trio.everywhere("drop table if exists credit.gone")
        trio.compare()


def test_a_type_that_becomes_wider(pair: Pair) -> None:
    """What the target's narrower column would round is refused, whatever the type is by now."""
    with make_trio(pair, "create table credit.t (id int primary key, n numeric(10,2))") as trio:
        run(trio.oracle_dsn, "alter table credit.t alter n type numeric")
        with streaming(pair) as daemon:
            with paused(daemon):
                trio.change("alter table credit.t alter n type numeric(20,4)")
                trio.change("insert into credit.t values (2, 1.2345)")
                trio.change("alter table credit.t alter n type numeric")
            assert daemon.process.wait(20) == 78
            assert "may not hold" in daemon.log()
        run(pair.target_dsn, "alter table credit.t alter n type numeric")
        trio.compare()


def test_a_daemon_that_runs_on_sees_each_change_of_a_table(pair: Pair) -> None:
    """What it knows of a table is never older than the row that it looks at."""
    with make_trio(
        pair,
        "create table credit.t (id int primary key, seq int not null default 0, b text, c text,"
        " g int generated always as (id * 2) stored)",
    ) as trio:

        def settle() -> None:
            trio.wait_for_oracle()
            dsns = (pair.source_admin_dsn, pair.target_admin_dsn)
            wait_until(lambda: len({str(sorted(rows(dsn, "credit.t"))) for dsn in dsns}) == 1)
            # What the daemon knows of the target is not the question here: it is asked anew.
            open_sessions = "select from pg_stat_activity where datname = %s and usename = %s"
            wait_until(
                lambda: fetch(pair.target_admin_dsn, open_sessions, pair.slot, TARGET_ROLE) == []
            )

        with streaming(pair, {"CDC_TARGET_IDLE_DISCONNECT": "0.2"}) as daemon:
            trio.change(
                f"insert into credit.t (id, b, c) select n, {BIG}, {BIG}"
                " from generate_series(1, 20) n"
            )
            trio.change("update credit.t set seq = 1")
            settle()
            trio.everywhere("alter table credit.t drop b")
            trio.change("update credit.t set seq = 2")
            settle()
            trio.everywhere("alter table credit.t rename c to b")
            trio.change("update credit.t set seq = 3")
            settle()
            trio.everywhere("alter table credit.t alter g drop expression")
            trio.change("update credit.t set g = 7")
            settle()
            trio.everywhere(
                "alter table credit.t drop constraint t_pkey, add primary key (id, seq)"
            )
            trio.change("insert into credit.t (id, seq) values (30, 1), (30, 2), (30, 3)")
            settle()
            assert daemon.terminate() == 0
        trio.compare()


@contextmanager
def paused(daemon: Daemon) -> Iterator[None]:
    """Stop a daemon for as long, so that what is done meanwhile waits in the stream."""
    daemon.process.send_signal(signal.SIGSTOP)
    yield
    daemon.process.send_signal(signal.SIGCONT)

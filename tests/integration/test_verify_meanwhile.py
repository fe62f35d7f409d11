"""What others do to tables while `cdc verify` compares them: it gives way, and is never wrong."""

import signal
import time

import psycopg
import pytest

from tests.databases import fetch, migrate, run_sql, wait_until
from tests.integration.test_verify_live import JOINED, PROBLEM, SLOW, prepare
from tests.pair import Pair
from tests.process import ok, spawn_cdc, streaming

# The snapshots are there, and no table has been looked at yet.
LATE = """
import asyncio
from cdc.assure import verify
load = verify.load_compared
async def late(*arguments):
    found = await load(*arguments)
    await asyncio.sleep(3)
    return found
verify.load_compared = late
from cdc.cli import main
main()
"""
EARLY = LATE.replace("    found =", "    await asyncio.sleep(3)\n    found =", 1)

# A query that takes long on the servers.
WORKING = """
from cdc.assure.verify import selection
digests = selection.Selection.digests
def slowly(self, buckets):
    sleep = "from (select pg_sleep(40) offset 0) s, (select row"
    return digests(self, buckets).replace("from (select row", sleep, 1)
selection.Selection.digests = slowly
from cdc.cli import main
main()
"""

COLUMNS = "(id int primary key, balance int not null, note text)"
OTHER = f"create table credit.other {COLUMNS};"
ANOTHER = f"drop table credit.account; create table credit.account {COLUMNS};"
SWAPPED = """
alter table credit.account rename to old;
alter table credit.other rename to account;
"""
PARTS = """
create schema credit;
create table credit.parts (id int primary key, n int) partition by range (id);
create table credit.part_0 partition of credit.parts for values from (0) to (100);
create table credit.part_1 partition of credit.parts for values from (100) to (200);
create table credit.apart (id int primary key, n int);
"""
ATTACHED = "alter table credit.parts attach partition credit.apart for values from (200) to (300)"
DETACHED = "alter table credit.parts detach partition credit.part_1"

COPY_SLOTS = (
    "select slot_name from pg_replication_slots"
    " where database = current_database() and slot_name ~ '^cdc_copy'"
)


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_migration_is_given_way(pair: Pair, side: str) -> None:
    """Who wants a table for himself waits two seconds or so, not until all is compared."""
    prepare(pair)
    dsn = pair.source_dsn if side == "source" else pair.target_dsn
    with streaming(pair), spawn_cdc(pair, "verify", script=SLOW) as verifying:
        reading = (
            "select from pg_locks l join pg_stat_activity a using (pid)"
            " where application_name = 'cdc verify' and relation = 'credit.account'::regclass"
            " and state = 'idle in transaction'"
        )
        wait_until(lambda: bool(fetch(dsn, reading)))
        run_sql(dsn, "set lock_timeout = '20s'; lock table credit.account in access exclusive mode")
        assert verifying.process.wait(20) == 75
        assert f"of the {side} waits for credit.account" in verifying.log()
    assert "gave way" in str(fetch(pair.target_dsn, PROBLEM))


@pytest.mark.parametrize("statement", ["truncate credit.account", "drop table credit.account"])
def test_what_is_rewritten_meanwhile_is_no_difference(pair: Pair, statement: str) -> None:
    """A snapshot older than a TRUNCATE shows an empty table: that is found, and said."""
    prepare(pair)
    with streaming(pair), spawn_cdc(pair, "verify", script=LATE) as verifying:
        wait_until(lambda: bool(fetch(pair.target_dsn, JOINED)))
        run_sql(pair.source_dsn, statement)
        assert verifying.process.wait(20) == 75, verifying.log()
        assert "credit.account was altered while it was compared" in verifying.log()


@pytest.mark.parametrize("how", ["migration", "SIGTERM"])
def test_a_query_that_nobody_waits_for_ends(pair: Pair, how: str) -> None:
    """Given way in the middle of a query, or told to stop: the server does not go on with it."""
    prepare(pair)
    with streaming(pair), spawn_cdc(pair, "verify", script=WORKING) as verifying:
        working = (
            "select from pg_stat_activity where application_name = 'cdc verify'"
            " and datname = current_database() and query ~ 'pg_sleep' and state = 'active'"
        )
        wait_until(lambda: bool(fetch(pair.source_dsn, working)))
        if how == "SIGTERM":
            verifying.process.send_signal(signal.SIGTERM)
        run_sql(
            pair.source_dsn,
            "set lock_timeout = '20s'; lock table credit.account in access exclusive mode",
        )
        assert verifying.process.wait(20) == (75 if how == "migration" else -signal.SIGTERM)


def test_an_index_that_is_built_beside_writers(pair: Pair) -> None:
    """It waits for all older transactions, the comparison's too: that gives way."""
    prepare(pair)
    with streaming(pair), spawn_cdc(pair, "verify", script=SLOW) as verifying:
        wait_until(lambda: bool(fetch(pair.target_dsn, JOINED)))
        with psycopg.connect(pair.source_dsn, autocommit=True) as source:
            source.execute("set statement_timeout = '30s'")
            source.execute("create index concurrently on credit.account (balance)")
        assert verifying.process.wait(20) == 75, verifying.log()


@pytest.mark.parametrize("sides", ["both", "source"])
def test_another_table_of_the_same_name(pair: Pair, sides: str) -> None:
    """Dropped and made again, it has no row in the snapshot: that does not count as equal."""
    prepare(pair)
    run_sql(pair.target_dsn, "update credit.account set balance = -1 where id = -1")
    meanwhile(pair, LATE, ANOTHER, ANOTHER if sides == "both" else "")


def test_a_table_that_was_put_in_the_place_of_another(pair: Pair) -> None:
    """By a new name: the rows of the old one are no difference."""
    prepare(pair, OTHER)
    meanwhile(pair, LATE, SWAPPED)


def test_a_table_that_is_gone_before_it_was_looked_at(pair: Pair) -> None:
    """Named, it cannot be equal."""
    prepare(pair)
    meanwhile(pair, EARLY, "drop table credit.account", named="credit.account")


@pytest.mark.parametrize("change", [ATTACHED, DETACHED], ids=["attached", "detached"])
def test_other_partitions(pair: Pair, change: str) -> None:
    """Rows that came into a table with a partition, or left with one, are no difference."""
    migrate(pair, PARTS)
    run_sql(pair.source_dsn, "insert into credit.parts select n, n from generate_series(0, 199) n")
    run_sql(pair.source_dsn, "insert into credit.apart values (201, 1)")
    run_sql(
        pair.source_admin_dsn,
        f"create publication {pair.publication} for table credit.parts, credit.apart"
        " with (publish_via_partition_root)",
    )
    ok(pair, "init")
    meanwhile(pair, LATE, change)


@pytest.mark.parametrize("who", ["verify", "daemon", "copier"])
def test_a_slot_that_nobody_waits_for_is_not_left(pair: Pair, who: str) -> None:
    """While an old transaction is open a snapshot is waited for; whoever ends then leaves none."""
    prepare(pair)
    with streaming(pair) as daemon, psycopg.connect(pair.source_dsn) as open_one:
        open_one.execute("update credit.account set note = 'late' where id = -1")
        if who == "copier":
            ok(pair, "resync")
        with spawn_cdc(pair, "verify") as verifying:
            wait_until(lambda: bool(fetch(pair.source_dsn, COPY_SLOTS)))
            time.sleep(0.5)
            if who == "verify":
                verifying.process.kill()
            else:
                daemon.terminate()
            wait_until(lambda: not fetch(pair.source_dsn, COPY_SLOTS))


def test_the_session_that_asked_is_cut_off(pair: Pair) -> None:
    """The daemon takes it for given up, so that there is no result: not one that nobody hears."""
    prepare(pair)
    slow = SLOW.replace("sleep(60)", "sleep(6)")
    with streaming(pair) as daemon, spawn_cdc(pair, "verify", script=slow) as verifying:
        wait_until(lambda: bool(fetch(pair.target_dsn, JOINED)))
        run_sql(
            pair.source_admin_dsn,
            "select pg_terminate_backend(l.pid) from pg_locks l join pg_stat_activity a using (pid)"
            " where locktype = 'advisory' and application_name = 'cdc verify'"
            " and a.datname = current_database()",
        )
        daemon.wait_for_log("a verification has come to no result")
        assert verifying.process.wait(30) == 75, verifying.log()
    assert fetch(pair.target_dsn, "select equal from cdc.verification") == [None]


def meanwhile(pair: Pair, script: str, source: str, target: str = "", named: str = "") -> None:
    """Change tables when the snapshots are there: the comparison has to come to no result."""
    with (
        streaming(pair),
        spawn_cdc(pair, "verify", *[named][: bool(named)], script=script) as verifying,
    ):
        wait_until(lambda: bool(fetch(pair.target_dsn, JOINED)))
        time.sleep(1)
        if target:
            run_sql(pair.target_dsn, target)
        run_sql(pair.source_dsn, source)
        assert verifying.process.wait(30) == 75, verifying.log()
    assert fetch(pair.target_dsn, "select equal from cdc.verification") == [None]

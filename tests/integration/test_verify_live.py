"""`cdc verify`: exact equality at one LSN, while both sides are written to."""

import json
import signal
import subprocess
import time
from dataclasses import dataclass, replace

import psycopg
import pytest

from cdc.demo.workload import Workload, load
from tests.accounts import INSERT, SCHEMA, locked, writing
from tests.databases import fetch, migrate, run_sql, wait_until
from tests.faults.proxy import Fault, proxied
from tests.pair import Pair
from tests.process import ok, run_cdc, spawn_cdc, streaming
from tests.servers import Versions, require_wal2json

# A comparison that holds its tables for as long as a test looks.
SLOW = """
import asyncio
from cdc.assure.verify import crew
shown = crew.is_as_shown
async def slowly(*arguments):
    await asyncio.sleep(60)
    return await shown(*arguments)
crew.is_as_shown = slowly
from cdc.cli import main
main()
"""

# It has asked, and does nothing any more.
FROZEN = """
import os, signal
from cdc.assure.verify.appointment import Appointment
wait = Appointment.wait
async def frozen(self, number):
    os.kill(os.getpid(), signal.SIGSTOP)
    return await wait(self, number)
Appointment.wait = frozen
from cdc.cli import main
main()
"""

JOINED = "select from cdc.verification where joined_at is not null and finished_at is null"
PROBLEM = "select problem from cdc.verification order by id desc limit 1"


@dataclass(slots=True, frozen=True)
class Found:
    """What `cdc verify --json` said."""

    code: int
    equal: bool
    lsn: str
    tables: dict[str, dict[str, int]]

    def counts(self, table: str = "credit.account") -> tuple[int, int, int]:
        """Give missing, extra and different rows."""
        found = self.tables[table]
        return found["missing"], found["extra"], found["different"]


def verified(pair: Pair, *arguments: str) -> Found:
    """Verify, and give what was found."""
    result = run_cdc(pair, "verify", "--json", *arguments)
    assert result.returncode in {0, 1}, result.stderr
    said = json.loads(result.stdout)
    assert said.keys() == {"equal", "lsn", "tables"}
    assert said["equal"] == (result.returncode == 0)
    return Found(result.returncode, **said)


def gave_up(result: subprocess.CompletedProcess[str], *words: str) -> None:
    """Assert that it came to no result, may be tried again, and said why."""
    assert result.returncode == 75, result.stderr
    assert result.stdout == ""
    for word in words:
        assert word in result.stderr


def prepare(pair: Pair, also: str = "") -> None:
    """Make tables, the copy, and in the first rows with negative keys, which nobody writes."""
    migrate(pair, SCHEMA + also)
    run_sql(pair.source_dsn, INSERT, -1000, -1)
    ok(pair, "init")


def test_equal_at_one_lsn_under_writes(pair: Pair) -> None:
    """Rows come and change all the while: each time both sides are the same, at a later LSN."""
    prepare(pair)
    with streaming(pair) as daemon, writing(pair):
        found = [verified(pair) for _ in range(2)]
        assert daemon.terminate() == 0, daemon.log()
    assert [each.equal for each in found] == [True] * 2, found
    rows = [each.tables["credit.account"]["source_rows"] for each in found]
    assert rows == sorted(set(rows))
    assert rows[0] > 1000


def test_what_differs_is_counted_under_writes(pair: Pair) -> None:
    """Among rows that go on changing: as many missing, extra and different as somebody made."""
    prepare(pair)
    with streaming(pair), writing(pair):
        run_sql(pair.target_dsn, "delete from credit.account where id between -30 and -11")
        run_sql(pair.target_dsn, "update credit.account set note = 'x' where id between -5 and -1")
        run_sql(pair.target_dsn, INSERT, -2003, -2001)
        found = verified(pair)
        assert found.code == 1
        assert found.counts() == (20, 3, 5)
        table = found.tables["credit.account"]
        assert table["target_rows"] == table["source_rows"] - 17
        shown = run_cdc(pair, "verify")
        assert shown.returncode == 1
        assert "1 table differs" in shown.stdout
        assert "cdc verify --repair" in shown.stdout


def test_the_whole_schema_under_its_workload(credit_pair: Pair) -> None:
    """Partitions, generated columns, TOAST, tables without a key: of each no row differs."""
    pair = credit_pair
    load(pair.source_dsn, 3_000)
    ok(pair, "init")
    with streaming(pair), Workload(pair.source_dsn, seed=5, rate=150):
        for _ in range(3):
            found = verified(pair)
            assert found.equal, found
    assert len(found.tables) > 5
    assert all(table["source_rows"] for table in found.tables.values())


@pytest.mark.parametrize("versions", [Versions(15, 18)], indirect=True, ids=str)
def test_by_wal2json(pair: Pair) -> None:
    """With the other plugin, which knows no publication; from the oldest version to the newest."""
    require_wal2json(pair.source)
    pair = replace(pair, plugin="wal2json")
    prepare(pair)
    with streaming(pair), writing(pair):
        run_sql(pair.target_dsn, "delete from credit.account where id = -1")
        assert verified(pair).counts() == (1, 0, 0)


def test_repair(pair: Pair) -> None:
    """What differs is set to what the source has, and compared again; the rest stays untouched."""
    prepare(pair)
    with streaming(pair), writing(pair):
        run_sql(pair.target_dsn, "delete from credit.account where id between -30 and -11")
        run_sql(pair.target_dsn, "update credit.account set note = 'x' where id = -1")
        run_sql(pair.target_dsn, INSERT, -2003, -2001)
        found = verified(pair, "--repair")
        assert (found.code, found.counts()) == (0, (0, 0, 0))
    results = "select equal, only_tables is null from cdc.verification order by id"
    assert fetch(pair.target_dsn, results) == [False, True, True, True]


def test_some_tables_alone(pair: Pair) -> None:
    """Of named tables only; one that is not copied is refused by name, a wrong name is usage."""
    prepare(pair, "create table credit.other (id int primary key)")
    with streaming(pair):
        run_sql(pair.target_dsn, "insert into credit.other values (1)")
        assert verified(pair, "credit.account").tables.keys() == {"credit.account"}
        assert verified(pair, "credit.other").counts("credit.other") == (0, 1, 0)
        unknown = run_cdc(pair, "verify", "credit.nothing")
        assert unknown.returncode == 78
        assert "credit.nothing is not copied" in unknown.stderr
        assert run_cdc(pair, "verify", "nothing").returncode == 2


def test_without_a_daemon(pair: Pair) -> None:
    """Nobody would let the stream stand: said at once, with what to start."""
    early = run_cdc(pair, "verify")
    assert early.returncode == 78
    prepare(pair)
    gave_up(run_cdc(pair, "verify"), "nobody streams", "cdc run")


def test_a_table_that_is_being_copied(pair: Pair) -> None:
    """Its rows are not to be seen yet: it is named, and others can be compared."""
    prepare(pair, "create table credit.other (id int primary key)")
    with streaming(pair):
        run_sql(
            pair.target_dsn,
            "update cdc.copy set completed_at = null, live = false where table_name = 'other'",
        )
        gave_up(run_cdc(pair, "verify"), "the copy of credit.other is under way", "cdc status")
        assert verified(pair, "credit.account").equal


def test_two_at_once(pair: Pair) -> None:
    """The second is told who is at it; the first is not disturbed."""
    prepare(pair)
    with streaming(pair), spawn_cdc(pair, "verify", script=SLOW) as first:
        wait_until(lambda: bool(fetch(pair.target_dsn, JOINED)))
        gave_up(run_cdc(pair, "verify"), "another `cdc verify` is at it: PID")
        assert first.process.poll() is None


def test_a_long_transaction_holds_up_the_comparison_and_not_the_stream(pair: Pair) -> None:
    """The source's snapshot waits for who writes; until then all other rows come."""
    prepare(pair)
    with streaming(pair), psycopg.connect(pair.source_dsn) as open_one:
        open_one.execute("update credit.account set note = 'late' where id = -1")
        with spawn_cdc(pair, "verify") as verifying:
            heard = "select from cdc.verification where heard_at is not null"
            wait_until(lambda: bool(fetch(pair.target_dsn, heard)))
            for row in range(1, 20):
                run_sql(pair.source_dsn, INSERT, row, row)
                there = f"select id from credit.account where id = {row}"
                wait_until(lambda: fetch(pair.target_dsn, there) == [row])  # noqa: B023
            verifying.wait_for_log("waiting for transactions of the source to end")
            assert verifying.process.poll() is None
            open_one.commit()
            assert verifying.process.wait(20) == 0, verifying.log()


def test_changes_that_are_gathered_do_not_hold_it_up(pair: Pair) -> None:
    """With a long flush interval, what has come is applied for the comparison."""
    prepare(pair)
    with streaming(pair, {"CDC_APPLY_FLUSH_INTERVAL": "3600"}):
        run_sql(pair.source_dsn, INSERT, 1, 50)
        found = verified(pair)
        assert found.equal
        assert found.tables["credit.account"]["target_rows"] == 1050


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT])
def test_who_verifies_is_killed(pair: Pair, signum: signal.Signals) -> None:
    """The stream goes on, the daemon notes that there was no result, and the next one finds it."""
    prepare(pair)
    with streaming(pair) as daemon, writing(pair):
        with spawn_cdc(pair, "verify", script=SLOW) as verifying:
            wait_until(lambda: bool(fetch(pair.target_dsn, JOINED)))
            verifying.process.send_signal(signum)
            assert verifying.process.wait(20) in {-9, 130}
        daemon.wait_for_log("a verification has come to no result")
        (problem,) = fetch(pair.target_dsn, PROBLEM)
        assert problem == (
            "it was interrupted" if signum is signal.SIGINT else "it ended before its end"
        )
        assert verified(pair).equal


def test_the_daemon_is_killed_meanwhile(pair: Pair) -> None:
    """Once both sides are in view nobody needs it: there is a result, and the next one hears it."""
    prepare(pair)
    slow = SLOW.replace("sleep(60)", "sleep(4)")
    with streaming(pair) as daemon, spawn_cdc(pair, "verify", script=slow) as verifying:
        wait_until(lambda: bool(fetch(pair.target_dsn, JOINED)))
        daemon.kill()
        with streaming(pair) as another:
            assert verifying.process.wait(20) == 0, verifying.log()
            another.wait_for_log('"verified"')
            assert verified(pair).equal


def test_who_does_not_join_holds_up_nobody(pair: Pair) -> None:
    """Frozen before it sees the offer: after ten seconds the stream goes on, and Neon may sleep."""
    prepare(pair)
    there = "select id from credit.account where id = 1"
    sessions = "select sessions from pg_stat_database where datname = current_database()"
    with streaming(pair) as daemon, spawn_cdc(pair, "verify", script=FROZEN) as verifying:
        daemon.wait_for_log("both sides were not in view")
        run_sql(pair.source_dsn, INSERT, 1, 1)
        wait_until(lambda: fetch(pair.target_dsn, there) == [1])
        time.sleep(3)
        (before,) = fetch(pair.target_dsn, sessions)
        time.sleep(5)
        (after,) = fetch(pair.target_dsn, sessions)
        assert int(str(after)) - int(str(before)) <= 1, "this test's own"
        verifying.process.send_signal(signal.SIGCONT)
        assert verifying.process.wait(60) == 75, verifying.log()


def test_a_target_that_cannot_apply_meanwhile(pair: Pair) -> None:
    """A lock on the target holds the stream up before its place: then both, until it is gone."""
    prepare(pair)
    with streaming(pair), spawn_cdc(pair, "verify") as verifying:
        with locked(pair.target_dsn):
            run_sql(pair.source_dsn, INSERT, 1, 50)
            heard = "select from cdc.verification where heard_at is not null"
            wait_until(lambda: bool(fetch(pair.target_dsn, heard)))
            assert verifying.process.poll() is None
        assert verifying.process.wait(20) == 0, verifying.log()


def test_rows_in_quarantine_differ(pair: Pair) -> None:
    """A change that waits is not on the target, and nobody says that it were."""
    prepare(pair)
    run_sql(pair.target_dsn, "alter table credit.account add constraint few check (balance < 100)")
    with streaming(pair, {"CDC_APPLY_ON_ERROR": "quarantine"}):
        run_sql(pair.source_dsn, "update credit.account set balance = 100 where id = -1")
        wait_until(lambda: fetch(pair.target_dsn, "select count(*) from cdc.quarantine") == [1])
        assert verified(pair).counts() == (0, 0, 1)


def test_a_result_that_came_while_nobody_streamed(pair: Pair) -> None:
    """The source's sessions are cut as the comparison ends: the next stream hears what it found."""
    prepare(pair)
    slow = SLOW.replace("sleep(60)", "sleep(5)")
    with (
        proxied(pair.source_dsn) as (proxy, through),
        streaming(pair, {"CDC_SOURCE_DSN": through}) as daemon,
        spawn_cdc(pair, "verify", script=slow) as verifying,
    ):
        wait_until(lambda: bool(fetch(pair.target_dsn, JOINED)))
        proxy.begin(Fault.RESET)
        assert verifying.process.wait(20) == 0, verifying.log()
        proxy.heal()
        daemon.wait_for_log('"verified"')

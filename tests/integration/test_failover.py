"""`cdc failover promote`: a copy becomes a database that applications write to."""

import signal
import threading
import time

import psycopg
import pytest

from tests.databases import checkpoint, fetch, migrate, run_sql, wait_until, waits_for_lock
from tests.failing_over import (
    BANK,
    ROWS,
    Bank,
    asked,
    booking,
    copied_bank,
    dead_source,
    definitions,
)
from tests.pair import Pair
from tests.process import STREAMING, Daemon, drain, ok, run_cdc, spawn_cdc, streaming
from tests.servers import on_every_version

NEW_ACCOUNT = "insert into credit.account (bank) values ('one') returning id"


@pytest.fixture
def bank(pair: Pair) -> Bank:
    """A pair that is copied."""
    return copied_bank(pair)


@on_every_version
def test_tables_do_again_what_they_did(bank: Bank) -> None:
    """The source is dead. What was taken from the tables is back; what was off before stays off."""
    pair = bank.pair
    with dead_source(pair):
        answer = asked(pair, "promote", "--yes")
        assert answer["lsn"] == checkpoint(pair)
        assert answer["unvalidated"] == answer["accepted"] == []
        assert definitions(pair.target_admin_dsn) == bank.before
        run_sql(pair.target_dsn, "update credit.account set bank = 'two' where id = 3")
        assert fetch(pair.target_dsn, "select touched from credit.account where id = 3") == [2]
        run_sql(pair.target_dsn, "delete from credit.account where id = 3")
        left = "select count(*)::int from credit.{} where account = 3"
        assert fetch(pair.target_dsn, left.format("entry")) == [0]
        assert fetch(pair.target_dsn, left.format("event")) == [0]
        with pytest.raises(psycopg.errors.GeneratedAlways):
            run_sql(pair.target_dsn, "insert into credit.account (id) values (7)")


def test_new_rows_get_free_keys(bank: Bank) -> None:
    """Of every column that a sequence feeds, with a distance to what the source may have given."""
    pair = bank.pair
    with dead_source(pair):
        asked(pair, "promote", "--yes")
        assert fetch(pair.target_dsn, NEW_ACCOUNT) == [1021]
        assert fetch(pair.target_dsn, "select max(number) from credit.account") == [1021]
        entry = "insert into credit.entry (account) values (1) returning id"
        assert fetch(pair.target_dsn, entry) == [1021]


def test_sequences_go_on_where_the_sources_stand(bank: Bank) -> None:
    """The source answers: numbers that rows do not show count too, and no distance is kept."""
    pair = bank.pair
    run_sql(
        pair.source_dsn, "select setval('credit.account_id_seq', 500), setval('credit.loose', 7)"
    )
    drain(pair)
    asked(pair, "promote", "--yes")
    assert fetch(pair.target_dsn, NEW_ACCOUNT) == [501]
    assert fetch(pair.target_dsn, "select nextval('credit.loose')") == [8]
    assert fetch(pair.target_dsn, "select nextval('credit.account_number_seq')") == [22]


OF_ANOTHER = (
    "insert into cdc.ledger (slot, event, detail)"
    " values ('billing', 'triggers disabled', 'billing.t: touch')"
)


def test_it_is_written_down(bank: Bank) -> None:
    """In the ledger with the LSN; what was altered is resolved, but not in another's schema."""
    pair = bank.pair
    run_sql(pair.target_dsn, OF_ANOTHER)
    with dead_source(pair):
        asked(pair, "promote", "--yes")
    ledger = "select to_lsn::text from cdc.ledger where event = 'promoted'"
    assert fetch(pair.target_dsn, ledger) == [checkpoint(pair)]
    resolved = (
        "select distinct resolution from cdc.ledger where event = 'triggers disabled'"
        " and slot {} 'billing'"
    )
    assert fetch(pair.target_dsn, resolved.format("<>")) == ["taken back by promotion"]
    assert fetch(pair.target_dsn, resolved.format("=")) == [None]
    assert "promoted at" in ok(pair, "status").stdout


def test_again_it_says_that_it_is_done(bank: Bank) -> None:
    """And changes nothing: neither sequences nor ledger."""
    pair = bank.pair
    with dead_source(pair):
        first = asked(pair, "promote", "--yes")
        numbers = fetch(pair.target_dsn, NEW_ACCOUNT)
        again = asked(pair, "promote", "--yes")
        assert (first["before"], again["before"]) == (False, True)
        assert again["promoted_at"] == first["promoted_at"]
        assert fetch(pair.target_dsn, NEW_ACCOUNT) == [int(str(numbers[0])) + 1]
        assert asked(pair, "check")["promoted_at"] == first["promoted_at"]
    entries = "select count(*)::int from cdc.ledger where event = 'promoted'"
    assert fetch(pair.target_dsn, entries) == [1]


def test_a_table_of_somebody_else_that_is_referred_to(bank: Bank) -> None:
    """It need not be ours, as long as we may refer to it; else a drill says so beforehand."""
    pair = bank.pair
    run_sql(pair.target_admin_dsn, "alter table credit.plain owner to postgres")
    with dead_source(pair):
        assert "42501" in str(asked(pair, "drill", code=1)["problem"])
        run_sql(pair.target_admin_dsn, "grant select, references on credit.plain to app_target")
        assert asked(pair, "drill")["ok"] is True
        asked(pair, "promote", "--yes")
    assert definitions(pair.target_admin_dsn) == bank.before


# A promotion that waits for a signal when it has looked at all.
LATE_ONE = """
import asyncio, signal, sys
import cdc.assure.failover.promotion as promotion
from cdc.cli import main

async def wait(target, slot):
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, told.set)
    print("has looked", file=sys.stderr, flush=True)
    await told.wait()

promotion._settle = wait
main()
"""


def test_two_at_once(bank: Bank) -> None:
    """Both have found a copy; the second finds under the lock that it is none any more."""
    pair = bank.pair
    with spawn_cdc(pair, "failover", "promote", "--yes", script=LATE_ONE) as late:
        late.wait_for_log("has looked")
        asked(pair, "promote", "--yes")
        late.process.send_signal(signal.SIGUSR1)
        assert late.process.wait(60) == 0, late.log()
    assert "promoted already" in late.stdout.read_text()
    entries = "select count(*)::int from cdc.ledger where event = 'promoted'"
    assert fetch(pair.target_dsn, entries) == [1]


def test_validation_goes_on_where_it_was_cut_off(bank: Bank) -> None:
    """Promoted again, foreign keys that are not valid yet are; those that never were are not."""
    pair = bank.pair
    with dead_source(pair):
        asked(pair, "promote", "--yes")
        run_sql(
            pair.target_dsn,
            "alter table credit.account drop constraint of_bank, add constraint of_bank"
            " foreign key (bank) references credit.bank on update cascade on delete cascade"
            " not valid",
        )
        assert definitions(pair.target_admin_dsn) != bank.before
        assert asked(pair, "promote", "--yes")["unvalidated"] == []
        assert definitions(pair.target_admin_dsn) == bank.before


def halts(daemon: Daemon) -> None:
    """Expect the end of a daemon that has found a promoted target."""
    assert daemon.process.wait(60) == 78, daemon.log()
    assert "was promoted" in daemon.log()


def test_a_daemon_that_runs_is_fenced(bank: Bank) -> None:
    """It was idle. The source is back and written to: nothing of that arrives, and it halts."""
    pair = bank.pair
    with streaming(pair) as daemon:
        with dead_source(pair):
            asked(pair, "promote", "--yes")
            stands = checkpoint(pair)
        run_sql(pair.source_dsn, "insert into credit.bank values ('late', 'x')")
        halts(daemon)
    assert checkpoint(pair) == stands
    assert fetch(pair.target_dsn, "select code from credit.bank where code = 'late'") == []


# Freezes itself after the first part of a large transaction.
FREEZES = """
import os, signal
from cdc.cli import main
from cdc.target.transaction import Transaction

keep = Transaction.keep

def keep_and_freeze(self, batch):
    keep(self, batch)
    Transaction.keep = keep
    os.kill(os.getpid(), signal.SIGSTOP)

Transaction.keep = keep_and_freeze
main()
"""

LARGE = "insert into credit.bank select 'late ' || n, 'x' from generate_series(1, 200) n"


def test_a_daemon_that_is_frozen_is_fenced(bank: Bank) -> None:
    """In the middle of a transaction: its locks go with its session; woken up, it halts."""
    pair = bank.pair
    env = {"CDC_APPLY_MAX_ROWS": "50"}
    with spawn_cdc(pair, "run", env=env, script=FREEZES) as daemon:
        daemon.wait_for_log(STREAMING)
        run_sql(pair.source_dsn, LARGE)
        idle = (
            "select pid from pg_stat_activity where datname = current_database()"
            " and state = 'idle in transaction'"
        )
        wait_until(lambda: bool(fetch(pair.target_admin_dsn, idle)))
        with dead_source(pair):
            assert asked(pair, "promote", "--yes")["ended"]
            run_sql(pair.target_dsn, "insert into credit.bank values ('ours', 'y')")
        daemon.process.send_signal(signal.SIGCONT)
        halts(daemon)
    codes = fetch(pair.target_dsn, "select code from credit.bank order by 1")
    assert codes == ["kept", "one", "ours", "two"]


def test_a_daemon_under_load_is_fenced(bank: Bank) -> None:
    """In the middle of its batches: what it had committed is there, whole, and nothing after it."""
    pair = bank.pair
    with streaming(pair) as daemon, booking(pair):
        wait_until(lambda: held(pair)[0] > 50)
        answer = asked(pair, "promote", "--yes", "--force")
        at_once = checkpoint(pair), held(pair)
        halts(daemon)
    assert at_once[0] == answer["lsn"]
    assert (checkpoint(pair), held(pair)) == at_once
    touched, accounts, entries = at_once[1]
    assert touched / 2 == accounts - 20 == entries - 20  # the trigger counts too
    assert definitions(pair.target_admin_dsn) == bank.before


def held(pair: Pair) -> tuple[int, int, int]:
    """Give what bookings have left on the target, of each of its tables."""
    query = (
        "select touched, (select count(*)::int from credit.account),"
        " (select count(*)::int from credit.entry) from credit.bank where code = 'one'"
    )
    touched, accounts, entries = (int(str(number)) for number in fetch(pair.target_dsn, query))
    return touched, accounts, entries


def test_a_batch_that_is_written_is_waited_for(bank: Bank) -> None:
    """It waits for somebody's lock: as that is gone within seconds, its rows are there."""
    pair = bank.pair
    with streaming(pair), psycopg.connect(pair.target_admin_dsn) as lock:
        lock.execute("lock table credit.entry in share mode")
        run_sql(pair.source_dsn, "insert into credit.entry (account) values (1)")
        wait_until(lambda: waits_for_lock(pair.target_admin_dsn))
        promotion = threading.Thread(target=asked, args=(pair, "promote", "--yes", "--force"))
        promotion.start()
        looked = "select pid from pg_stat_activity where application_name = 'cdc failover'"
        wait_until(lambda: bool(fetch(pair.target_admin_dsn, looked)), 60)
        time.sleep(3)
        lock.rollback()
        promotion.join()
    assert fetch(pair.target_dsn, "select count(*)::int from credit.entry") == [21]
    assert fetch(pair.target_dsn, PROMOTED) == [True]


PROMOTED = "select promoted_at is not null from cdc.checkpoint"


def test_a_daemon_that_starts_meanwhile(bank: Bank) -> None:
    """It has found a copy just before the promotion: it prepares no table any more, and halts."""
    pair = bank.pair
    with spawn_cdc(pair, "run", script=STARTS_SLOWLY) as daemon:
        daemon.wait_for_log("about to prepare")
        asked(pair, "promote", "--yes")
        daemon.process.send_signal(signal.SIGUSR1)
        halts(daemon)
    assert definitions(pair.target_admin_dsn) == bank.before


# A daemon that waits for a signal when all has been looked at and nothing is altered yet.
STARTS_SLOWLY = """
import asyncio, signal, sys
import cdc.sync.initialize as initialize
from cdc.cli import main

prepare = initialize._prepare

async def wait_and_prepare(pair, copied):
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, told.set)
    print("about to prepare", file=sys.stderr, flush=True)
    await told.wait()
    await prepare(pair, copied)

initialize._prepare = wait_and_prepare
main()
"""


def test_a_daemon_that_is_to_copy_again(bank: Bank) -> None:
    """It hears of that by the stream, and would take foreign keys off by itself: it halts."""
    pair = bank.pair
    with streaming(pair) as daemon:
        asked(pair, "promote", "--yes")
        anew = "update cdc.copy set begun_at = null, completed_at = null where table_name = 'plain'"
        run_sql(pair.target_dsn, anew)
        run_sql(pair.source_dsn, "select pg_logical_emit_message(true, 'cdc', 'resync')")
        halts(daemon)
    assert definitions(pair.target_admin_dsn) == bank.before


def test_the_checkpoint_itself_refuses(bank: Bank) -> None:
    """Whoever would claim or move it, of whatever version, or reset it by hand."""
    pair = bank.pair
    asked(pair, "promote", "--yes")
    for change in ("epoch = epoch + 1", "lsn = '0/1'", "lsn = null"):
        with pytest.raises(psycopg.Error) as refused:
            run_sql(pair.target_dsn, f"update cdc.checkpoint set {change}")
        assert refused.value.sqlstate == "CD005"


def test_a_daemon_that_copies_is_fenced(pair: Pair) -> None:
    """In the middle of the first copy: it is accepted that rows are missing, and no more come."""
    migrate(pair, BANK)
    before = definitions(pair.target_admin_dsn)
    run_sql(pair.source_dsn, ROWS)
    run_sql(pair.source_dsn, MANY)
    env = {"CDC_SNAPSHOT_CHUNK_BYTES": "8192", "CDC_SNAPSHOT_WORKERS": "1"}
    chunks = "select count(*)::int from cdc.snapshot_chunk where copied_at is not null"
    with spawn_cdc(pair, "run", env=env, script=SLOW) as daemon:
        daemon.wait_for_log(STREAMING)
        wait_until(lambda: int(str(fetch(pair.target_dsn, chunks)[0])) > 3)
        assert asked(pair, "promote", "--yes", code=1)["refused"]
        answer = asked(pair, "promote", "--yes", "--force")
        rows = fetch(pair.target_dsn, "select count(*) from credit.account")
        halts(daemon)
    assert fetch(pair.target_dsn, "select count(*) from credit.account") == rows
    assert answer["accepted"]
    after = definitions(pair.target_admin_dsn)
    assert [str(line).removesuffix(" NOT VALID") for line in after] == [
        str(line).removesuffix(" NOT VALID") for line in before
    ]


# A daemon that takes its time for each chunk.
SLOW = """
import asyncio
import cdc.sync.workers as workers
from cdc.cli import main

copy_chunk = workers.copy_chunk

async def slowly(*args, **named):
    await asyncio.sleep(0.3)
    return await copy_chunk(*args, **named)

workers.copy_chunk = slowly
main()
"""

MANY = "insert into credit.account (bank) select 'two' from generate_series(1, 60000)"


@pytest.mark.parametrize(
    "command",
    [("run", "--until-current"), ("init",), ("resync",), ("quarantine", "retry"), ("check",)],
    ids=" ".join,
)
def test_nothing_is_copied_any_more(bank: Bank, command: tuple[str, ...]) -> None:
    """Whatever is run later says that the target was promoted, and alters nothing."""
    pair = bank.pair
    asked(pair, "promote", "--yes")
    result = run_cdc(pair, *command)
    assert result.returncode == (1 if command == ("check",) else 78), result.stdout
    assert "was promoted" in result.stdout + result.stderr
    assert definitions(pair.target_admin_dsn) == bank.before

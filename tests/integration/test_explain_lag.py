"""`cdc explain lag` names what holds the pipeline back: a real fault each, and the verdict."""

import json
import re
import signal
import time
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.accounts import INSERT, SCHEMA, locked, writing
from tests.databases import migrate, run_sql, wait_until, waits_for_lock
from tests.explaining import explain, running
from tests.faults.proxy import Fault, proxied
from tests.pair import Pair, drop_slots, execute
from tests.process import ok, run_cdc, spawn_cdc
from tests.servers import SOURCE_ROLE, on_every_version
from tests.spooling import SCHEMA as SPOOLED
from tests.spooling import queueing

# Long enough for a silent daemon to be told from a busy one: 15 s by default.
PATIENT_SENDER = "-c wal_sender_timeout=60s"


@pytest.fixture
def tiny(pair: Pair) -> Iterator[Pair]:
    """Two databases with a table of three rows on the source, whose role sees what sessions do.

    Supabase's `postgres` is in pg_monitor; an owner on Neon is not.
    """
    migrate(pair, SCHEMA)
    run_sql(pair.source_dsn, INSERT, 1, 3)
    execute(pair.source, f"grant pg_monitor to {SOURCE_ROLE}")
    yield pair
    execute(pair.source, f"revoke pg_monitor from {SOURCE_ROLE}")


def test_level(tiny: Pair) -> None:
    """Where nothing is behind the target is not touched: what is unreachable sleeps on."""
    with running(tiny):
        said = explain(tiny, {"CDC_TARGET_DSN": "host=127.0.0.1 port=1"})
    assert (said.exit_code, said.behind, said.verdict) == (0, False, "none")
    assert not said.asked_target
    assert said.findings.keys() == {"none"}


def test_level_under_load(tiny: Pair) -> None:
    """A pipeline that keeps up is not behind, though its last bytes are on their way."""
    with running(tiny), writing(tiny):
        for _ in range(3):
            said = explain(tiny, {"CDC_TARGET_DSN": "host=127.0.0.1 port=1"})
            assert (said.exit_code, said.verdict, said.asked_target) == (0, "none", False)


def test_without_a_slot(tiny: Pair) -> None:
    """No slot is an answer: `cdc init` makes one."""
    said = explain(tiny)
    assert (said.exit_code, said.verdict, said.asked_target) == (0, "slot", False)
    assert "cdc init" in said.next


def test_without_a_daemon(tiny: Pair) -> None:
    """Nobody streams: the verdict where changes wait, a remark where there are none."""
    ok(tiny, "init")
    said = explain(tiny)
    assert (said.verdict, "daemon" in said.findings) == ("none", True)
    run_sql(tiny.source_dsn, INSERT, 4, 9)
    said = explain(tiny)
    assert (said.exit_code, said.verdict, said.asked_target) == (0, "daemon", False)
    assert f"nobody streams from slot {tiny.slot}" in said.seen
    assert "cdc run" in said.next
    text = run_cdc(tiny, "explain", "lag")
    assert (text.returncode, text.stderr) == (0, "")
    # The server writes WAL of its own meanwhile: how much is behind is another number by now.
    assert text.stdout.startswith(f"daemon: nobody streams from slot {tiny.slot}: ")
    assert text.stdout.endswith(f" are behind\n        {said.next}\n")


def test_another_consumer(tiny: Pair) -> None:
    """Who reads the slot and is no daemon is named, with the statement that ends it."""
    ok(tiny, "init")
    start = (
        f"START_REPLICATION SLOT {tiny.slot} LOGICAL 0/0"
        f" (proto_version '1', publication_names '{tiny.publication}')"
    )
    dsn = make_conninfo(tiny.source_dsn, replication="database", application_name="somebody else")
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as other:
        other.execute(start.encode())
        run_sql(tiny.source_dsn, INSERT, 4, 9)
        said = explain(tiny)
        pid = other.info.backend_pid
        other.close()
    assert (said.exit_code, said.verdict, said.asked_target) == (0, "daemon", False)
    assert f"read by PID {pid}, which is no daemon of ours: somebody else" in said.seen
    assert f"pg_terminate_backend({pid})" in said.next


@on_every_version
def test_a_lock_on_the_target(tiny: Pair) -> None:
    """The verdict names the blocking PID, its application and statement, without its values."""
    with running(tiny), psycopg.connect(tiny.target_dsn, application_name="a report") as other:
        other.execute("lock table credit.account in share mode")
        other.execute("select count(*) from credit.account where note = 'confidential'")
        run_sql(tiny.source_dsn, INSERT, 4, 9)
        wait_until(lambda: waits_for_lock(tiny.target_dsn))
        said = explain(tiny)
        pid = other.info.backend_pid
    assert (said.exit_code, said.verdict, said.asked_target) == (0, "target lock", True)
    assert f"PID {pid} (a report, " in said.seen
    assert "idle in transaction" in said.seen
    assert "credit.account (RowExclusiveLock)" in said.seen
    assert "last ran `select count(*) from credit.account where note = '…'`" in said.seen
    assert f"pg_terminate_backend({pid})" in said.next
    assert "confidential" not in repr(said)


def test_a_lock_of_a_role_that_is_hidden(tiny: Pair) -> None:
    """Where our role may not see what another runs, that is said; the PID is known all the same."""
    with running(tiny), locked(tiny.target_admin_dsn):
        run_sql(tiny.source_dsn, INSERT, 4, 9)
        wait_until(lambda: waits_for_lock(tiny.target_admin_dsn))
        said = explain(tiny)
    assert said.verdict == "target lock"
    assert "hidden from our role, which lacks pg_read_all_stats" in said.seen
    assert re.search(r"pg_terminate_backend\(\d+\)", said.next)


def test_a_frozen_daemon(tiny: Pair) -> None:
    """One that is stopped, and cannot reply, is told from one that waits."""
    dsn = make_conninfo(tiny.source_dsn, options=PATIENT_SENDER)
    with running(tiny, {"CDC_SOURCE_DSN": dsn}) as daemon:
        daemon.process.send_signal(signal.SIGSTOP)
        try:
            run_sql(tiny.source_dsn, INSERT, 4, 9)
            said = explain(tiny)
        finally:
            daemon.process.send_signal(signal.SIGCONT)
    assert (said.exit_code, said.verdict, said.asked_target) == (0, "network", False)
    assert "has not said a word" in said.seen
    assert "ps -C cdc" in said.next


def test_a_frozen_daemon_and_a_role_that_sees_little(tiny: Pair) -> None:
    """Without pg_read_all_stats a silent daemon is not told from a slow one; that is said."""
    execute(tiny.source, f"revoke pg_monitor from {SOURCE_ROLE}")
    with running(tiny) as daemon:
        daemon.process.send_signal(signal.SIGSTOP)
        try:
            run_sql(tiny.source_dsn, INSERT, 4, 9)
            said = explain(tiny)
        finally:
            daemon.process.send_signal(signal.SIGCONT)
    assert (said.exit_code, said.verdict, said.asked_target) == (0, "daemon", True)
    assert "or is frozen; whether it replies is hidden from our role" in said.seen


def test_a_target_that_is_away(tiny: Pair) -> None:
    """What the attempt to connect met is the verdict."""
    with proxied(tiny.target_dsn) as (proxy, through), running(tiny, {"CDC_TARGET_DSN": through}):
        proxy.begin(Fault.RESET)
        run_sql(tiny.source_dsn, INSERT, 4, 9)
        said = explain(tiny, {"CDC_TARGET_DSN": through})
        assert (said.exit_code, said.verdict, said.asked_target) == (0, "target away", True)
        assert "cannot be reached" in said.seen


def test_changes_that_are_gathered(tiny: Pair) -> None:
    """With a flush interval the wait is on purpose, and nobody wakes the target for it."""
    interval = {"CDC_APPLY_FLUSH_INTERVAL": "600"}
    with running(tiny, interval):
        # The copy's own barrier opens no burst: what comes now is gathered.
        run_sql(tiny.source_dsn, INSERT, 4, 9)
        said = explain(tiny, interval | {"CDC_TARGET_DSN": "host=127.0.0.1 port=1"})
    assert (said.exit_code, said.verdict, said.asked_target) == (0, "gathering", False)
    assert "10 min" in said.seen


def test_a_long_transaction_on_the_source(tiny: Pair) -> None:
    """Its rows come with its commit: it is named though nothing is behind."""
    with running(tiny), psycopg.connect(tiny.source_dsn, application_name="a batch job") as job:
        job.execute("insert into credit.account values (4, 0, 'confidential')")
        time.sleep(5.1)
        said = explain(tiny)
        pid = job.info.backend_pid
    assert (said.exit_code, said.verdict) == (0, "none")
    seen, then = said.findings["source transaction"]
    assert f"PID {pid} (a batch job, " in seen
    assert "comes with its commit" in seen
    assert "confidential" not in seen
    assert f"pg_terminate_backend({pid})" in then


def test_a_slot_that_waits_for_a_transaction(tiny: Pair) -> None:
    """While the slot is being made, the verdict is who has not committed; the lag is unknown."""
    with psycopg.connect(tiny.source_dsn, application_name="a batch job") as job:
        job.execute("insert into credit.account values (4, 0, 'x')")
        with spawn_cdc(tiny, "init"):
            wait_until(lambda: waits_for_lock(tiny.source_admin_dsn))
            said = explain(tiny)
            lag = run_cdc(tiny, "lag", "--json", "--max-bytes", "1000000000")
        pid = job.info.backend_pid
    assert (said.exit_code, said.verdict) == (0, "source transaction")
    assert f"PID {pid} (a batch job, " in said.seen
    assert (lag.returncode, json.loads(lag.stdout)["lag_bytes"]) == (1, None)


def test_a_copy_that_waits_for_a_transaction(tiny: Pair) -> None:
    """A table that is to be copied waits for who writes; the stream goes on beside it."""
    with running(tiny), psycopg.connect(tiny.source_dsn, application_name="a batch job") as job:
        job.execute("insert into credit.account values (4, 0, 'x')")
        ok(tiny, "resync")
        wait_until(lambda: waits_for_lock(tiny.source_admin_dsn))
        said = explain(tiny)
        pid = job.info.backend_pid
    assert (said.exit_code, said.verdict, said.asked_target) == (0, "source transaction", True)
    assert f"the copy of credit.account waits for PID {pid} (a batch job, " in said.seen
    assert "copy" in said.findings


def test_changes_that_are_queued(pair: Pair) -> None:
    """While the target is away and the daemon queues: why, and how much of it there is."""
    migrate(pair, SPOOLED)
    with queueing(pair):
        said = explain(pair)
    assert (said.exit_code, said.verdict, said.asked_target) == (0, "target away", True)
    assert re.search(r"\d+ transactions are queued", said.findings["spool"][0])


def test_a_prepared_transaction(tiny: Pair) -> None:
    """It has no PID: it is named by its identifier."""
    gid = f"{tiny.slot}_gid"
    with psycopg.connect(tiny.source_dsn, autocommit=True) as source:
        source.execute("begin; insert into credit.account values (4, 0, 'x')")
        source.execute(f"prepare transaction '{gid}'")
        try:
            with spawn_cdc(tiny, "init"):
                wait_until(lambda: waits_for_lock(tiny.source_admin_dsn))
                said = explain(tiny)
        finally:
            source.execute(f"rollback prepared '{gid}'")
    assert (said.exit_code, said.verdict) == (0, "source transaction")
    assert "a prepared transaction" in said.seen
    assert "pg_prepared_xacts" in said.next


def test_a_large_transaction_that_is_decoded(tiny: Pair) -> None:
    """The walsender is busy, and what spills to its disk is counted."""
    # A row filter that takes the walsender some milliseconds a row.
    slow = "length(md5(repeat(note, 1000000))) > 0"
    run_sql(
        tiny.source_admin_dsn,
        f"create publication {tiny.publication} for table credit.account where ({slow})",
    )
    options = "-c logical_decoding_work_mem=64kB"
    env = {"CDC_SOURCE_DSN": make_conninfo(tiny.source_dsn, options=options)}
    with running(tiny, env) as daemon:
        run_sql(tiny.source_dsn, INSERT, 10, 4000)
        said = explain(tiny, env)
        daemon.kill()
    assert (said.exit_code, said.verdict, said.asked_target) == (0, "decoding", False)
    assert "large transactions go by way of its disk" in said.seen
    assert "logical_decoding_work_mem is 64kB" in said.seen
    assert "logical_decoding_work_mem%3D256MB" in said.next
    drop_slots(tiny.source, tiny.slot)

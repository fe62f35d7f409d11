"""The target away for long, with a spool: the source is let go of, nothing is lost or doubled."""

import json
import random
import time

import pytest

from cdc.lsn import parse_lsn
from tests.databases import confirmed, fetch, migrate, run_sql, wait_until
from tests.pair import Pair, same_rows
from tests.process import all_copied, drain, ok, run_cdc, spawn_cdc, streaming
from tests.servers import stoppable
from tests.serving import LOOPBACK, free_port, get
from tests.spooling import (
    DRAINED,
    KEY,
    QUEUEING,
    ROOM,
    SCHEMA,
    SPOOL,
    insert,
    queueing,
    spool,
    wait_until_let_go,
    writing,
)


@pytest.fixture
def tiny(pair: Pair) -> Pair:
    """Two databases with two empty tables; `cdc run` initializes them by itself."""
    migrate(pair, SCHEMA)
    return pair


@pytest.fixture
def queued(tiny: Pair) -> Pair:
    """A pair whose daemon was killed with changes in its spool; the target is there again."""
    with queueing(tiny) as daemon:
        insert(tiny, 1, 100)
        wait_until_let_go(tiny)
        daemon.kill()
    stoppable(tiny.target).start()
    return tiny


def test_queues_while_the_target_is_away(tiny: Pair) -> None:
    """The source is let go of meanwhile; then the target gets it all, and the stream is direct."""
    with queueing(tiny) as daemon:
        for n in range(5):
            insert(tiny, n * 10 + 1, n * 10 + 10)
            wait_until_let_go(tiny)
        run_sql(tiny.source_dsn, "update credit.account set balance = 7 where id < 15")
        stoppable(tiny.target).start()
        daemon.wait_for_log(DRAINED)
        wait_until(lambda: daemon.log().count('"streaming"') == 2)
        insert(tiny, 51, 60)
        wait_until(lambda: fetch(tiny.target_dsn, "select count(*) from credit.account") == [60])
        assert daemon.terminate() == 0, daemon.log()
    assert same_rows(tiny) == {"account": 60, "log": 60}
    assert spool(tiny).stat().st_size < 100_000
    drain(tiny)


def test_other_wal_is_let_go_of_as_well(tiny: Pair) -> None:
    """While the target is away and nothing is published, the slot moves all the same."""
    with queueing(tiny) as daemon:
        run_sql(tiny.source_dsn, "create table public.other as select generate_series(1, 10000)")
        (written,) = fetch(tiny.source_dsn, "select pg_current_wal_flush_lsn()::text")
        wait_until(lambda: parse_lsn(confirmed(tiny)) >= parse_lsn(str(written)))
        stoppable(tiny.target).start()
        daemon.wait_for_log(DRAINED)
        assert daemon.terminate() == 0, daemon.log()
    insert(tiny, 1, 1)
    drain(tiny)
    same_rows(tiny)


def test_goes_on_without_the_target_after_a_restart(tiny: Pair) -> None:
    """A daemon that starts while the target is away queues where the one before it stopped."""
    with queueing(tiny) as daemon:
        insert(tiny, 1, 10)
        wait_until_let_go(tiny)
        assert daemon.terminate() == 0, daemon.log()
    insert(tiny, 11, 20)
    with spawn_cdc(tiny, "run", env=SPOOL) as daemon:
        wait_until_let_go(tiny)
        stoppable(tiny.target).start()
        daemon.wait_for_log(DRAINED)
        assert daemon.terminate() == 0, daemon.log()
    assert same_rows(tiny) == {"account": 20, "log": 20}


def test_a_daemon_that_has_queued_nothing_yet_begins_without_the_target(tiny: Pair) -> None:
    """Once it has streamed, a daemon may start to queue though it cannot ask for the checkpoint."""
    with streaming(tiny, SPOOL) as daemon:
        insert(tiny, 1, 10)
        wait_until(lambda: fetch(tiny.target_dsn, "select count(*) from credit.log") == [10])
        daemon.kill()
    stoppable(tiny.target).stop()
    insert(tiny, 11, 20)
    with spawn_cdc(tiny, "run", env=SPOOL) as daemon:
        wait_until_let_go(tiny)
        stoppable(tiny.target).start()
        daemon.wait_for_log(DRAINED)
        assert daemon.terminate() == 0, daemon.log()
    assert same_rows(tiny) == {"account": 20, "log": 20}


@pytest.mark.parametrize("seed", [1, 2])
def test_kills_at_any_moment(tiny: Pair, seed: int) -> None:
    """Killed over and over, the target coming and going, under load: equal, each row once."""
    moments = random.Random(seed)
    target = stoppable(tiny.target)
    with streaming(tiny, SPOOL) as daemon:
        daemon.kill()
    with writing(tiny):
        for _ in range(8):
            if moments.random() < 0.5:
                (target.stop if target.running else target.start)()
            with spawn_cdc(tiny, "run", env=SPOOL | {"CDC_APPLY_MAX_ROWS": "40"}) as daemon:
                time.sleep(moments.uniform(0.6, 1.6))
                if moments.random() < 0.3:
                    (target.stop if target.running else target.start)()
                    time.sleep(moments.uniform(0.1, 1.0))
                daemon.kill()
        if not target.running:
            target.start()
        with spawn_cdc(tiny, "run", env=SPOOL) as daemon:
            daemon.wait_for_log('"streaming"')
            assert daemon.terminate() == 0, daemon.log()
    drain(tiny)
    counts = same_rows(tiny)
    assert counts["log"] > 100


def test_a_target_that_goes_away_again(tiny: Pair) -> None:
    """Lost in the middle of the replay, it is queued for again, and nothing comes twice."""
    with queueing(tiny, {"CDC_APPLY_MAX_ROWS": "100"}) as daemon:
        insert(tiny, 1, 20_000, each=50)
        wait_until_let_go(tiny)
        stoppable(tiny.target).start()
        daemon.wait_for_log("the target is there")
        stoppable(tiny.target).stop()
        insert(tiny, 20_001, 20_100)
        wait_until(lambda: daemon.log().count(QUEUEING) == 2)
        wait_until_let_go(tiny)
        stoppable(tiny.target).start()
        daemon.wait_for_log(DRAINED)
        assert daemon.terminate() == 0, daemon.log()
    drain(tiny)
    assert same_rows(tiny) == {"account": 20_100, "log": 20_100}


def test_a_large_transaction(tiny: Pair) -> None:
    """Larger than a batch and than a record: it is queued whole, and applied whole."""
    with queueing(tiny, {"CDC_APPLY_MAX_ROWS": "1000"}) as daemon:
        insert(tiny, 1, 10)
        insert(tiny, 11, 40_000)
        wait_until_let_go(tiny)
        stoppable(tiny.target).start()
        daemon.wait_for_log(DRAINED)
        assert daemon.terminate() == 0, daemon.log()
    assert same_rows(tiny) == {"account": 40_000, "log": 40_000}


def test_a_large_transaction_that_was_under_way(tiny: Pair) -> None:
    """The target lost in the middle of it: it begins anew, from the spool."""
    with streaming(tiny, SPOOL | {"CDC_APPLY_MAX_ROWS": "1000"}) as daemon:
        insert(tiny, 1, 60_000)
        in_transaction = "select 1 from pg_stat_activity where xact_start < now() - interval '0.2s'"
        wait_until(lambda: bool(fetch(tiny.target_admin_dsn, in_transaction)))
        stoppable(tiny.target).kill()
        daemon.wait_for_log(QUEUEING)
        wait_until_let_go(tiny)
        stoppable(tiny.target).start()
        daemon.wait_for_log(DRAINED)
        assert daemon.terminate() == 0, daemon.log()
    assert same_rows(tiny) == {"account": 60_000, "log": 60_000}


def test_shapes_that_change_while_queued(tiny: Pair) -> None:
    """A column that came, and one that went: each row is read with the shape it was sent in."""
    with queueing(tiny) as daemon:
        insert(tiny, 1, 10)
        run_sql(tiny.source_dsn, "alter table credit.log add column more int default 5")
        insert(tiny, 11, 20)
        run_sql(tiny.source_dsn, "alter table credit.log drop column note")
        run_sql(tiny.source_dsn, "insert into credit.log values (21, 1)")
        wait_until_let_go(tiny)
        stoppable(tiny.target).start()
        run_sql(tiny.target_dsn, "alter table credit.log add column more int default 5")
        daemon.wait_for_log(DRAINED)
        assert daemon.terminate() == 0, daemon.log()
    run_sql(tiny.target_dsn, "alter table credit.log drop column note")
    assert same_rows(tiny) == {"account": 20, "log": 21}


def test_a_source_that_does_not_come_back(queued: Pair) -> None:
    """With the source gone, the spool has the last changes that there are: the target gets them."""
    stoppable(queued.source).kill()
    with spawn_cdc(queued, "run", env=SPOOL) as daemon:
        daemon.wait_for_log(DRAINED)
        assert fetch(queued.target_dsn, "select count(*) from credit.log") == [100]
        stoppable(queued.source).start()
        insert(queued, 101, 110)
        wait_until(lambda: fetch(queued.target_dsn, "select count(*) from credit.log") == [110])
        assert daemon.terminate() == 0, daemon.log()
    drain(queued)
    assert same_rows(queued) == {"account": 110, "log": 110}


@pytest.mark.parametrize("asked", ["resync", "not begun"])
def test_tables_that_are_to_be_copied(queued: Pair, asked: str) -> None:
    """Nobody copies while the spool is emptied: it is none the less, and then they are copied."""
    if asked == "resync":
        ok(queued, "resync")
    else:
        run_sql(queued.target_dsn, "update cdc.copy set completed_at = null, begun_at = null")
    with spawn_cdc(queued, "run", env=SPOOL) as daemon:
        daemon.wait_for_log(DRAINED)
        daemon.wait_for_log('"streaming"')
        wait_until(lambda: all_copied(queued))
        assert daemon.terminate() == 0, daemon.log()
    drain(queued)
    same_rows(queued)


def test_turned_off_with_changes_in_it(queued: Pair) -> None:
    """What is in the spool is applied first, though nothing is queued any more."""
    insert(queued, 101, 110)
    drain(queued)
    assert same_rows(queued) == {"account": 110, "log": 110}


def test_how_old_what_is_queued_is(tiny: Pair) -> None:
    """The copy is as far behind as its first commit is old; so too after a restart."""
    listening = {"CDC_HTTP_LISTEN": f"{LOOPBACK}:{free_port()}"}
    port = int(listening["CDC_HTTP_LISTEN"].rpartition(":")[2])

    def behind_s() -> float:
        lag_s = get(port, "/api/credit/health/databases").json()["lagSeconds"]
        return float(str(lag_s)) if lag_s is not None else 0.0

    with queueing(tiny, listening) as daemon:
        wait_until(lambda: behind_s() > 1)
        daemon.kill()
    began = time.time()
    with spawn_cdc(tiny, "run", env=SPOOL | listening) as daemon:
        daemon.wait_for_log(QUEUEING)
        wait_until(lambda: behind_s() > 1 + time.time() - began)
        stoppable(tiny.target).start()
        daemon.wait_for_log(DRAINED)
        wait_until(lambda: behind_s() == 0)
        assert daemon.terminate() == 0, daemon.log()


def test_needs_pgoutput(tiny: Pair) -> None:
    """With wal2json it is refused at the start, with what to change."""
    result = run_cdc(tiny, "run", env=ROOM | {"CDC_SOURCE_PLUGIN": "wal2json"})
    assert result.returncode == 78
    assert "CDC_SPOOL_MAX_BYTES=0" in result.stderr


def test_lag_and_status_say_what_is_queued(queued: Pair) -> None:
    """What is in the spool is not on the target: it counts as behind, though it is confirmed."""
    lag = run_cdc(queued, "lag", "--json", "--max-bytes", "1000")
    assert lag.returncode == 1
    measured = json.loads(lag.stdout)
    assert measured["lag_bytes"] > 10_000
    assert measured["lag_seconds"] is None
    status = json.loads(ok(queued, "status", "--json").stdout)
    # Those of messages alone among them.
    assert status["spooled_transactions"] >= 4
    assert status["spooled_bytes"] > 10_000
    assert f"{status['spooled_transactions']} transactions" in ok(queued, "status").stdout
    drain(queued)
    assert json.loads(ok(queued, "lag", "--json").stdout)["lag_bytes"] == 0
    assert json.loads(ok(queued, "status", "--json").stdout)["spooled_bytes"] == 0


# With a key


def test_is_encrypted_with_a_key(tiny: Pair) -> None:
    """No file of the state directory holds a value of a row; the wrong key is refused."""
    with queueing(tiny, KEY) as daemon:
        insert(tiny, 1, 10)
        run_sql(tiny.source_dsn, "insert into credit.log values (0, 'the marker of a value')")
        wait_until_let_go(tiny)
        content = b"".join(file.read_bytes() for file in tiny.state_dir.iterdir())
        assert len(content) > 5000
        assert b"marker" not in content
        assert daemon.terminate() == 0, daemon.log()
    stoppable(tiny.target).start()
    for other in ({}, {"CDC_SPOOL_KEY": "another key of sixteen letters"}):
        result = run_cdc(tiny, "run", "--until-current", env=ROOM | other)
        assert result.returncode == 78
        assert "another key" in result.stderr
    assert run_cdc(tiny, "run", "--until-current", env=ROOM | KEY).returncode == 0
    assert same_rows(tiny) == {"account": 10, "log": 11}

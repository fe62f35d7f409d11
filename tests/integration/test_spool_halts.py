"""A spool that is full, broken, gone or of another time: a clear halt, nothing unsafe confirmed.

Each test ends with `cdc run` at 78; what can be mended is mended, and both sides are equal.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from cdc.lsn import parse_lsn
from tests.databases import checkpoint, confirmed, fetch, migrate, run_sql, wait_until
from tests.pair import Pair, same_rows
from tests.process import drain, ok, run_cdc, spawn_cdc
from tests.servers import stoppable
from tests.spooling import DRAINED, ROOM, SCHEMA, SPOOL, insert, queueing, spool, wait_until_let_go

NEW = "select 1 from credit.log where account between 101 and 110"


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


def test_target_went_back(queued: Pair) -> None:
    """A target restored to before the spool begins lacks what nobody has any more."""
    run_sql(queued.target_dsn, "update cdc.checkpoint set lsn = lsn - 1000")
    assert checkpoint(queued) in halted(queued)
    events = "select event, from_lsn::text from cdc.ledger where event = 'position lost'"
    assert fetch(queued.target_dsn, events) == ["position lost", checkpoint(queued)]
    run_sql(queued.target_dsn, "update cdc.checkpoint set lsn = lsn + 1000")
    drain(queued)
    same_rows(queued)


def test_target_went_back_after_the_spool_was_applied(queued: Pair) -> None:
    """What was applied is forgotten: a target restored to before that is told apart."""
    before = checkpoint(queued)
    with spawn_cdc(queued, "run", env=SPOOL) as daemon:
        daemon.wait_for_log(DRAINED)
        daemon.wait_for_log('"streaming"')
        assert daemon.terminate() == 0, daemon.log()
    run_sql(queued.target_dsn, "truncate credit.account, credit.log")
    run_sql(queued.target_dsn, "update cdc.checkpoint set lsn = %s::pg_lsn", before)
    assert before in halted(queued)


def test_target_went_back_to_within_the_spool(tiny: Pair) -> None:
    """A target restored to a state that the spool still reaches back to is brought up again."""
    small = {"CDC_APPLY_MAX_ROWS": "100"}
    with queueing(tiny, small) as daemon:
        insert(tiny, 1, 60_000, each=50)
        wait_until_let_go(tiny)
        daemon.kill()
    stoppable(tiny.target).start()
    before = checkpoint(tiny)
    with spawn_cdc(tiny, "run", env=SPOOL | small) as daemon:
        wait_until(lambda: checkpoint(tiny) != before)
        daemon.kill()
        assert DRAINED not in daemon.log()
    run_sql(tiny.target_dsn, "truncate credit.account, credit.log")
    run_sql(tiny.target_dsn, "update cdc.checkpoint set lsn = %s::pg_lsn", before)
    drain(tiny)
    assert same_rows(tiny) == {"account": 60_000, "log": 60_000}


def test_slot_dropped(queued: Pair) -> None:
    """The slot goes while the spool holds changes: that is said, and stands in the ledger."""
    run_sql(queued.source_admin_dsn, f"select pg_drop_replication_slot('{queued.slot}')")
    assert run_cdc(queued, "run", env=ROOM).returncode == 78
    events = "select event, from_lsn::text from cdc.ledger where event = 'position lost'"
    assert fetch(queued.target_dsn, events) == ["position lost", checkpoint(queued)]


def test_spool_removed(queued: Pair) -> None:
    """A spool that is gone with what the source has forgotten: the range is said."""
    content = spool(queued).read_bytes()
    file = spool(queued)
    file.unlink()
    said = halted(queued)
    assert checkpoint(queued) in said
    assert confirmed(queued) in said
    file.write_bytes(content)
    drain(queued)
    assert same_rows(queued) == {"account": 100, "log": 100}


def test_a_new_copy_needs_no_spool(queued: Pair) -> None:
    """What an older slot of the same name has left in it is not applied to a newer copy."""
    run_sql(queued.source_dsn, "delete from credit.log where account > 50")
    run_sql(queued.target_dsn, "update cdc.checkpoint set lsn = null")
    ok(queued, "init")
    assert list(queued.state_dir.glob("*.spool*")) == []
    assert same_rows(queued) == {"account": 100, "log": 50}
    insert(queued, 101, 110)
    drain(queued)
    assert same_rows(queued) == {"account": 110, "log": 60}


def test_spool_removed_while_changes_are_queued(tiny: Pair) -> None:
    """Noticed before anything more is confirmed."""
    with queueing(tiny) as daemon:
        insert(tiny, 1, 10)
        wait_until_let_go(tiny)
        for file in tiny.state_dir.glob("*.spool*"):
            file.unlink()
        at = parse_lsn(confirmed(tiny))
        insert(tiny, 11, 20)
        assert daemon.process.wait(20) == 78, daemon.log()
        assert "removed" in daemon.log()
        assert parse_lsn(confirmed(tiny)) - at < 1000


def test_log_with_a_flipped_byte(queued: Pair) -> None:
    """SQLite drops the end of a log that does not add up: the slot was confirmed beyond it."""
    (log,) = queued.state_dir.glob("*.spool-wal")
    content = bytearray(log.read_bytes())
    content[-2000] ^= 0x10
    log.write_bytes(content)
    assert confirmed(queued) in halted(queued)


@pytest.mark.parametrize("part", [0.0, 0.5, 0.9])
def test_spool_with_flipped_bytes(queued: Pair, part: float) -> None:
    """A changed byte is found, wherever it is: nothing that comes after it is applied."""
    content = bytearray(spool(queued).read_bytes())
    start = int(len(content) * part)
    for offset in range(start, min(start + 5000, len(content))):
        content[offset] ^= 0x10
    spool(queued).write_bytes(content)
    at = confirmed(queued)
    insert(queued, 101, 110)
    assert "corrupt" in halted(queued)
    assert confirmed(queued) == at
    assert fetch(queued.target_dsn, NEW) == []


def test_full(tiny: Pair) -> None:
    """Full while the target is away: the end, with the setting to change; then it goes on."""
    small = {"CDC_SPOOL_MAX_BYTES": "200000"}
    with queueing(tiny, small) as daemon:
        insert(tiny, 1, 1000)
        wait_until_let_go(tiny)
        at = parse_lsn(confirmed(tiny))
        insert(tiny, 1001, 3000)
        assert daemon.process.wait(20) == 78, daemon.log()
        assert "CDC_SPOOL_MAX_BYTES" in daemon.log()
        assert "200,000" in daemon.log()
        assert parse_lsn(confirmed(tiny)) - at < 1000
    with spawn_cdc(tiny, "run", env=SPOOL) as daemon:
        wait_until_let_go(tiny)
        stoppable(tiny.target).start()
        daemon.wait_for_log(DRAINED)
        assert daemon.terminate() == 0, daemon.log()
    assert same_rows(tiny) == {"account": 3000, "log": 3000}


def test_full_while_the_target_takes_it_in(tiny: Pair) -> None:
    """Full while it is replayed: the writer waits for room, which comes."""
    small = {"CDC_SPOOL_MAX_BYTES": "3000000", "CDC_APPLY_MAX_ROWS": "100"}
    with queueing(tiny, small) as daemon:
        insert(tiny, 1, 14_000, each=100)
        wait_until_let_go(tiny)
        stoppable(tiny.target).start()
        daemon.wait_for_log("the target is there")
        insert(tiny, 14_001, 40_000, each=1000)
        daemon.wait_for_log(DRAINED)
        assert daemon.terminate() == 0, daemon.log()
    drain(tiny)
    assert same_rows(tiny) == {"account": 40_000, "log": 40_000}


def test_disk_full(tiny: Pair, tmp_path: Path) -> None:
    """No space left where the spool is: the same end, and the same way on."""
    with tiny_disk(tmp_path / "disk") as disk:
        small = replace(tiny, state_dir=disk / "state")
        log = small.state_dir.parent
        assert log.is_dir()
        with queueing(small) as daemon:
            insert(small, 1, 100)
            wait_until_let_go(small)
            at = parse_lsn(confirmed(small))
            insert(small, 101, 20_000)
            assert daemon.process.wait(20) == 78, daemon.log()
            assert "disk" in daemon.log()
            assert "is full" in daemon.log()
            assert parse_lsn(confirmed(small)) - at < 1000
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        stoppable(tiny.target).start()
        drain(small)
        assert same_rows(tiny) == {"account": 20_000, "log": 20_000}


@contextmanager
def tiny_disk(folder: Path) -> Iterator[Path]:
    """Give a folder on a disk of one megabyte; skip where that cannot be made."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, check=False).returncode != 0:
        pytest.skip("mounting a small disk needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def halted(pair: Pair) -> str:
    """Run the daemon, see it end with 78 and nothing confirmed, and give what it said."""
    at = confirmed(pair)
    result = run_cdc(pair, "run", "--until-current", env=ROOM)
    assert result.returncode == 78, result.stderr
    assert confirmed(pair) == at
    return result.stderr

"""The daemon killed at each point that matters: by SIGKILL, before or after a call of its own.

Transactions number themselves on the source all the while, and a reader of the target looks for
one that is missing, doubled or half there (`tests.chaos.audit`). A killed command says where it
dies: one that ends otherwise, or never comes there, fails its test.
"""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo

from cdc.assure.resync import request_resync
from cdc.settings import Settings
from tests.chaos.audit import FILL, SCHEMA, Reader, Seen, Writer, reading, writing
from tests.databases import fetch, migrate, run_sql, wait_until
from tests.faults import kill_points
from tests.faults.kill_points import Point
from tests.faults.killed_at import farewell
from tests.faults.proxy import Fault, proxied
from tests.pair import Pair, make_pair, same_rows
from tests.process import drain, environment, run_cdc, spawn_cdc
from tests.servers import CHECKOUT, SessionServers, Versions

SMALL = {"CDC_SNAPSHOT_CHUNK_BYTES": "16384", "CDC_SNAPSHOT_WORKERS": "2"}
LARGE = {"CDC_APPLY_MAX_ROWS": "50"}
RESYNC = SMALL | {"CDC_SOURCE_ON_SLOT_LOST": "resync"}
SPOOL = {"CDC_SPOOL_MAX_BYTES": "100000000", "CDC_SPOOL_AFTER": "0.3"}

RATE = 30.0
"""Transactions a second: enough for each daemon to find some, and few to compare."""

# The reader looks at all rows each time.
MOST_USES = 20

# A process that does not come to its point in so long never does.
PATIENCE_S = 30.0


def at(points: Sequence[Point]) -> pytest.MarkDecorator:
    """Repeat a test for each point."""
    return pytest.mark.parametrize("point", points, ids=[point.name for point in points])


@dataclass(slots=True)
class Kept:
    """A pair that streams already, for one test after the other: each would need a first copy."""

    stack: ExitStack
    pair: Pair | None = None
    uses: int = 0


@pytest.fixture(scope="module")
def kept() -> Iterator[Kept]:
    """What is kept from test to test."""
    with ExitStack() as stack:
        yield Kept(stack)


@pytest.fixture
def old(
    kept: Kept, servers: SessionServers, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Pair]:
    """A pair that streams; a new one after a test that failed, or when it has many rows."""
    if kept.pair is None or kept.uses == MOST_USES:
        kept.stack.close()
        made = make_pair(servers, Versions(), tmp_path / "state", credit=False)
        kept.pair, kept.uses = kept.stack.enter_context(made), 0
        begin(kept.pair)
        with writing(Writer(kept.pair.source_dsn, 7)):
            time.sleep(0.1)  # no table is empty
        drain(kept.pair)
    failed = request.session.testsfailed
    kept.uses += 1
    yield kept.pair
    if request.session.testsfailed > failed:
        kept.pair = None


@at(kill_points.STREAM)
def test_killed_while_it_streams(old: Pair, point: Point) -> None:
    """From the socket to the confirmation: nothing is lost, and nothing is applied twice."""
    with audited(old):
        kill(old, point, "run")


@at(kill_points.LARGE)
def test_killed_within_a_large_transaction(old: Pair, point: Point) -> None:
    """Of parts that were applied nothing is seen, and all of them come again."""
    with audited(old, LARGE, large_share=0.1):
        kill(old, point, "run", env=LARGE)


@at(kill_points.IDLE)
def test_killed_while_it_confirms_what_is_idle(old: Pair, point: Point) -> None:
    """What was confirmed beyond the checkpoint is known on disk before the source is told."""
    with audited(old, quiet=True):
        write_foreign_wal(old)
        kill(old, point, "run")


@pytest.mark.parametrize("fault", [Fault.HOLD_COMMIT, Fault.LOSE_COMMIT], ids=["sent", "answered"])
def test_killed_while_a_commit_is_on_its_way(old: Pair, fault: Fault) -> None:
    """A COMMIT that the target gets later, or has answered to nobody: it counts once."""
    with audited(old), proxied(old.target_dsn) as (proxy, dsn):
        with spawn_cdc(old, "run", env={"CDC_TARGET_DSN": dsn}) as daemon:
            proxy.begin(fault)
            assert (proxy.held if fault is Fault.HOLD_COMMIT else proxy.lost).wait(PATIENCE_S)
            daemon.kill()
        proxy.heal()


@at(kill_points.INITIALIZE)
def test_killed_while_it_initializes(pair: Pair, point: Point) -> None:
    """The next run goes on with what is missing, and knows its own slot."""
    begin(pair)
    with audited(pair, SMALL, whole=False):
        kill(pair, point, "run", env=SMALL)


@at(kill_points.COPY)
def test_killed_while_it_copies(pair: Pair, point: Point) -> None:
    """At each stage of the first copy; chunks that have their mark stay."""
    begin(pair)
    with audited(pair, SMALL, whole=False):
        kill(pair, point, "run", env=SMALL)


@at(kill_points.ASKED)
def test_killed_while_a_resync_is_asked_for(old: Pair, point: Point) -> None:
    """The command dies: the wish is there or it is not, and nothing else has changed."""
    with audited(old, SMALL):
        kill(old, point, "resync", "credit.account", env=SMALL)


@at(kill_points.MEND)
def test_killed_while_it_mends(old: Pair, point: Point) -> None:
    """A table copied anew in its place is mended all the same, and whole at any time."""
    run_sql(old.target_dsn, "update credit.account set note = 'wrong' where id % 3 = 0")
    with audited(old, SMALL):
        ask_for_resync(old)
        kill(old, point, "run", env=SMALL)
    assert fetch(old.target_dsn, "select id from credit.account where note = 'wrong'") == []


@at(kill_points.NEW_TABLE)
def test_killed_while_it_copies_a_new_table(old: Pair, point: Point) -> None:
    """A table that came later has all its rows, those before and those after the copy."""
    name = f"credit.later_{kill_points.NEW_TABLE.index(point)}"
    rows = f"insert into {name} select n, md5(n::text) from generate_series(%s::int, %s) n"
    migrate(old, f"create table {name} (id int primary key, body text)")
    run_sql(old.source_dsn, rows, 1, 900)
    with audited(old, SMALL):
        kill(old, point, "run", env=SMALL)
        run_sql(old.source_dsn, rows, 901, 950)


@at(kill_points.RENEW)
def test_killed_while_it_begins_anew(old: Pair, point: Point) -> None:
    """The slot went on without us: the target is as it was until all of it is there again."""
    with audited(old, RESYNC):
        lose_changes(old)
        kill(old, point, "run", env=RESYNC)
    gaps = "select from cdc.ledger where from_lsn is not null and resolved_at is null"
    assert fetch(old.target_dsn, gaps) == []


@at(kill_points.VERIFY)
def test_killed_while_somebody_verifies(old: Pair, point: Point) -> None:
    """The stream goes on where it was; who verifies comes to an end, with a result or without."""
    with audited(old), spawn_cdc(old, "run", script=deadly(point)) as dying:
        dying.wait_for_log("streaming")
        with spawn_cdc(old, "verify") as verifying, spawn_cdc(old, "run") as daemon:
            assert dying.process.wait(PATIENCE_S) == -signal.SIGKILL, dying.log()
            assert verifying.process.wait(PATIENCE_S) in {0, 75}, verifying.log()
            assert daemon.process.poll() is None, daemon.log()


@at(kill_points.VERIFYING)
def test_killed_while_it_verifies(old: Pair, point: Point) -> None:
    """The stream goes on, and the next one who verifies is not in its way."""
    with audited(old), spawn_cdc(old, "run") as daemon:
        daemon.wait_for_log("streaming")
        kill(old, point, "verify")
        result = run_cdc(old, "verify")
        assert result.returncode == 0, result.stderr


@at(kill_points.SPOOL_MADE)
def test_killed_while_the_spool_is_made(old: Pair, point: Point) -> None:
    """A spool is there whole, or not at all."""
    for file in old.state_dir.glob("*.spool*"):
        file.unlink()
    with audited(old, SPOOL):
        kill(old, point, "run", env=SPOOL)


@at(kill_points.QUEUE)
def test_killed_while_it_queues(old: Pair, point: Point) -> None:
    """What was confirmed is in the spool; what was not comes again."""
    with audited(old, SPOOL):
        make_spool(old)
        kill(old, point, "run", env=SPOOL | away(old))


@at(kill_points.REPLAY)
def test_killed_while_it_replays(old: Pair, point: Point) -> None:
    """What is queued is applied once, and forgotten after that."""
    with audited(old, SPOOL):
        make_spool(old)
        kill(old, kill_points.QUEUED, "run", env=SPOOL | away(old))
        kill(old, point, "run", env=SPOOL)


def begin(pair: Pair) -> None:
    """Make the tables, and the accounts on the source."""
    migrate(pair, SCHEMA)
    run_sql(pair.source_dsn, FILL)


@contextmanager
def audited(
    pair: Pair,
    env: Mapping[str, str] | None = None,
    *,
    whole: bool = True,
    quiet: bool = False,
    large_share: float = 0.0,
) -> Iterator[None]:
    """Write and read beside the block; catch up after it, and find nothing lost, doubled or half.

    `whole`: a reader may expect whole states from the first moment on. `quiet`: what is written is
    written before the block.
    """
    with reading(pair.target_dsn, whole=whole) as reader:
        writer = Writer(pair.source_dsn, 7, rate=RATE, large_share=large_share, large_rows=300)
        with writing(writer):
            if quiet:
                time.sleep(0.1)
            else:
                yield
        if quiet:
            yield
        result = run_cdc(pair, "run", "--until-current", env=env)
        assert result.returncode == 0, result.stderr
        wait_until(lambda: reader.seen.highest == writer.committed)
    same_rows(pair)
    judge(reader)


def judge(reader: Reader) -> None:
    """Assert that a reader has seen nothing wrong."""
    seen = reader.seen
    assert seen == Seen(looks=seen.looks, highest=seen.highest)


def kill(pair: Pair, point: Point, *arguments: str, env: Mapping[str, str] | None = None) -> None:
    """Run a command that dies at a point, and if the point says so another one."""
    for _ in range(1 + point.twice):
        result = subprocess.run(
            [sys.executable, "-m", "tests.faults.killed_at", point.name, "--", *arguments],
            cwd=CHECKOUT,
            env=environment(pair, env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
            timeout=PATIENCE_S,
        )
        assert result.returncode == -signal.SIGKILL, result.stderr
        assert result.stderr.endswith(farewell(point)), result.stderr


def deadly(point: Point) -> str:
    """Return a script that is the command cdc, and dies at a point."""
    return (
        "from tests.faults.kill_points import POINTS; from tests.faults.killed_at import arm;"
        f" arm(POINTS[{point.name!r}]); from cdc.cli import main; main()"
    )


def ask_for_resync(pair: Pair) -> None:
    """Ask for the accounts anew, as `cdc resync` does."""
    source = {"dsn": pair.source_dsn, "slot": pair.slot, "publication": pair.publication}
    settings = Settings.model_validate({"source": source, "target": {"dsn": pair.target_dsn}})
    asyncio.run(request_resync(settings, [("credit", "account")]))


def lose_changes(pair: Pair) -> None:
    """Let the slot forget what the target has not seen."""
    busy = "select from pg_replication_slots where slot_name = %s and active"
    wait_until(lambda: not fetch(pair.source_dsn, busy, pair.slot))
    before = fetch(pair.source_dsn, "select max(tx) from credit.audit")
    wait_until(lambda: fetch(pair.source_dsn, "select max(tx) from credit.audit") > before)
    advance = "select pg_replication_slot_advance(%s, pg_current_wal_lsn())"
    run_sql(pair.source_dsn, advance, pair.slot)


def write_foreign_wal(pair: Pair) -> None:
    """Write what is not published."""
    run_sql(pair.source_dsn, "create table if not exists public.foreign_wal (body text)")
    run_sql(pair.source_dsn, "insert into public.foreign_wal values ('x')")


def make_spool(pair: Pair) -> None:
    """Have a spool: only who has streamed with one may queue while the target is away."""
    if not list(pair.state_dir.glob("*.spool")):
        result = run_cdc(pair, "run", "--until-current", env=SPOOL)
        assert result.returncode == 0, result.stderr


def away(pair: Pair) -> dict[str, str]:
    """Return settings with a target that takes no connection."""
    return {"CDC_TARGET_DSN": make_conninfo(pair.target_dsn, host="127.0.0.1", port="1")}

"""Who hears of a failover: the webhook, the metrics, and who is asked on a terminal."""

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.databases import fetch, run_sql, wait_until
from tests.failing_over import Bank, asked, copied_bank, dead_source
from tests.ops.test_alerts import KEY, to
from tests.pair import Pair
from tests.process import environment, run_cdc, spawn_cdc
from tests.receiver import SECRET, Receiver, is_genuine, receiving
from tests.serving import free_port, get

LATE = "insert into credit.bank values ('late', 'x')"
PROMOTED = "select promoted_at is not null from cdc.checkpoint"


@pytest.fixture
def bank(pair: Pair) -> Bank:
    """A pair that is copied."""
    return copied_bank(pair)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that takes all that comes."""
    with receiving() as opened:
        yield opened


def promote(pair: Pair, receiver: Receiver) -> subprocess.CompletedProcess[str]:
    """Promote, and tell."""
    return run_cdc(pair, "failover", "promote", "--yes", env=to(receiver))


def test_the_webhook_is_told(bank: Bank, receiver: Receiver) -> None:
    """Once, signed, with the LSN; who promotes again tells nobody."""
    with dead_source(bank.pair):
        assert promote(bank.pair, receiver).returncode == 0
        assert promote(bank.pair, receiver).returncode == 0
    assert receiver.told() == [("failover", "firing", "critical")]
    (request,) = receiver.requests
    assert is_genuine(request.headers, request.body, KEY.encode())
    (lsn,) = fetch(bank.pair.target_dsn, "select to_lsn::text from cdc.ledger where to_lsn > '0/0'")
    assert str(lsn) in request.content["detail"]


def test_a_webhook_that_cannot_be_told(bank: Bank, receiver: Receiver) -> None:
    """It is promoted all the same, and stderr says that nobody was told: not where."""
    receiver.answers = [503]
    result = promote(bank.pair, receiver)
    assert result.returncode == 0, result.stderr
    assert "alerts.url could not be told" in result.stderr
    assert SECRET not in result.stderr
    assert fetch(bank.pair.target_dsn, PROMOTED) == [True]


def test_a_daemon_that_is_fenced_tells_why(bank: Bank, receiver: Receiver) -> None:
    """Its halt says that the target was promoted; metrics have that, and the drills before."""
    pair = bank.pair
    asked(pair, "drill")
    port = free_port()
    env = to(receiver, {"CDC_HTTP_LISTEN": f"127.0.0.1:{port}"})
    with spawn_cdc(pair, "run", env=env) as daemon:
        daemon.wait_for_log('"message":"streaming"')
        wait_until(lambda: has(port, 'cdc_failover_events{kind="drill ok"} 1.0'))
        assert has(port, 'cdc_failover_events{kind="promoted"} 0.0')
        with dead_source(pair):
            asked(pair, "promote", "--yes")
        run_sql(pair.source_dsn, LATE)
        wait_until(lambda: has(port, 'cdc_failover_events{kind="promoted"} 1.0'), 60)
        assert daemon.process.wait(60) == 78
    (halted,) = [r.content for r in receiver.requests if r.content["alert"] == "halted"]
    assert "was promoted" in halted["detail"]
    assert "systemctl disable --now cdc" in halted["next"]


def has(port: int, line: str) -> bool:
    """Tell whether the metrics have a line."""
    try:
        return line in get(port, "/metrics").text.splitlines()
    except OSError:
        return False


@contextmanager
def on_terminal(pair: Pair) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run a promotion that asks on a terminal; give its process, and where to answer."""
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "cdc", "failover", "promote"],
        env=environment(pair, {"TERM": "xterm"}),
        stdin=follower,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        yield process, leader
    os.close(leader)
    os.close(follower)


@pytest.mark.parametrize(("answer", "promoted"), [("n", False), ("y", True)])
def test_a_terminal_is_asked(bank: Bank, answer: str, *, promoted: bool) -> None:
    """With what is at stake; whoever does not say yes has changed nothing."""
    pair = bank.pair
    with dead_source(pair), on_terminal(pair) as (process, leader):
        os.write(leader, f"{answer}\n".encode())
        _, said = process.communicate(timeout=60)
    assert b"what it has committed after" in said
    assert b"nobody writes to the source" in said
    assert process.returncode == (0 if promoted else 1)
    assert fetch(pair.target_dsn, PROMOTED) == [promoted]


def test_somebody_writes_while_a_terminal_is_asked(bank: Bank) -> None:
    """What was true when it was shown is looked at again: it is refused, to be tried again."""
    pair = bank.pair
    with on_terminal(pair) as (process, leader):
        assert process.stderr is not None
        said = b""
        while b"shall it be done" not in said:
            said += os.read(process.stderr.fileno(), 1 << 16)
        run_sql(pair.source_dsn, LATE)
        os.write(leader, b"y\n")
        _, rest = process.communicate(timeout=60)
    assert process.returncode == 75, rest
    assert b"are written to while the target is promoted" in rest
    assert fetch(pair.target_dsn, PROMOTED) == [False]

"""Alerts of a real daemon as a real receiver gets them: what is wrong, and when it is over."""

import json
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.accounts import INSERT, SCHEMA, rows
from tests.databases import fetch, migrate, run_sql, wait_until
from tests.integration.test_long_away import fill, limited_wal
from tests.pair import Pair
from tests.process import STREAMING, Daemon, all_copied, run_cdc, spawn_cdc
from tests.receiver import SECRET, Receiver, is_genuine, receiving
from tests.servers import stoppable
from tests.serving import free_port

KEY = "a key of more than sixteen letters"
VALUE = "31337"

# A daemon in a hurry: what takes minutes, for good reasons, takes a second.
HASTY = """
import cdc.observe.alerts, cdc.observe.conditions as conditions, cdc.sync.lookout
cdc.observe.alerts.CALM_S = 1.5
for kind in conditions.KINDS:
    object.__setattr__(kind, "after_s", min(kind.after_s, 0.5))
cdc.sync.lookout.LOOK_INTERVAL_S = 0.1
from cdc.cli import main
main()
"""


@pytest.fixture
def tiny(pair: Pair) -> Pair:
    """Two databases with one empty table; `cdc run` initializes them by itself."""
    migrate(pair, SCHEMA)
    return pair


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that takes all that comes."""
    with receiving() as opened:
        yield opened


def to(receiver: Receiver, changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """Give the settings by which a daemon alerts it."""
    return {"CDC_ALERTS_URL": receiver.url, "CDC_ALERTS_KEY": KEY, **(changes or {})}


@contextmanager
def running(pair: Pair, env: Mapping[str, str]) -> Iterator[Daemon]:
    """Run a hasty daemon, whatever becomes of it; what it has logged is no secret."""
    with spawn_cdc(pair, "run", env=env, script=HASTY) as daemon:
        yield daemon
    assert SECRET not in daemon.log()
    assert KEY not in daemon.log()
    assert "Traceback" not in daemon.log()


@contextmanager
def streaming(pair: Pair, env: Mapping[str, str]) -> Iterator[Daemon]:
    """Run a hasty daemon, past its initial copy."""
    with running(pair, env) as daemon:
        daemon.wait_for_log(STREAMING)
        wait_until(lambda: all_copied(pair), 60)
        yield daemon


@contextmanager
def behind(pair: Pair) -> Iterator[None]:
    """Hold the copy back, by a lock on the target."""
    with psycopg.connect(pair.target_admin_dsn) as locking:
        locking.execute("lock table credit.account")
        run_sql(pair.source_dsn, INSERT, 1, 10)
        yield


REFUSED = f"insert into credit.account values (1, {VALUE}, 'x')"
REFUSE = "alter table credit.account add constraint small check (balance < 1000)"
MEND = "alter table credit.account drop constraint small"
HEARD = "select from cdc.verification where heard_at is not null"
LAGS = {"CDC_ALERTS_MAX_LAG": "0.5"}


# A halt


def test_a_halt_is_the_last_word(tiny: Pair, receiver: Receiver) -> None:
    """It has arrived before the process exits with 78, and names the problem and what to run."""
    with streaming(tiny, to(receiver)) as daemon:
        run_sql(tiny.target_dsn, REFUSE)
        run_sql(tiny.source_dsn, REFUSED)
        assert daemon.process.wait(30) == 78, daemon.log()
        assert receiver.told() == [("halted", "firing", "critical")]
    (request,) = receiver.requests
    content = request.content
    assert content["slot"] == tiny.slot
    assert "constraint small" in content["detail"]
    assert "start the daemon again" in content["next"]
    assert "constraint small" in content["text"]
    assert VALUE not in request.body.decode()
    assert is_genuine(request.headers, request.body, KEY.encode())


def test_a_halt_that_repeats_itself(tiny: Pair, receiver: Receiver) -> None:
    """A supervisor that starts it again causes no flood; mended, the same incident is resolved."""
    with streaming(tiny, to(receiver)) as daemon:
        run_sql(tiny.target_dsn, REFUSE)
        run_sql(tiny.source_dsn, REFUSED)
        assert daemon.process.wait(30) == 78, daemon.log()
    with running(tiny, to(receiver)) as daemon:
        assert daemon.process.wait(30) == 78, daemon.log()
    assert receiver.told() == [("halted", "firing", "critical")]
    run_sql(tiny.target_dsn, MEND)
    with running(tiny, to(receiver)) as daemon:
        wait_until(lambda: len(receiver.requests) > 1)
        assert daemon.terminate() == 0, daemon.log()
    assert receiver.told()[1:] == [("halted", "resolved", "critical")]
    first, last = (request.content for request in receiver.requests)
    assert first["incident"] == last["incident"]
    assert first["id"] != last["id"]


def test_a_daemon_that_cannot_begin(tiny: Pair, receiver: Receiver) -> None:
    """A halt before there was a stream is one."""
    env = to(receiver, {"CDC_HTTP_LISTEN": "192.0.2.1:9464", "CDC_HTTP_TOKEN": KEY})
    with running(tiny, env) as daemon:
        assert daemon.process.wait(30) == 78, daemon.log()
    assert receiver.told() == [("halted", "firing", "critical")]
    assert "cannot listen" in receiver.requests[0].content["detail"]


@pytest.mark.parametrize(
    ("change", "said"),
    [({"dbname": "nowhere"}, '"nowhere" does not exist'), ({"sslmode": "require"}, "SSL")],
)
def test_a_database_that_says_no(
    tiny: Pair, receiver: Receiver, change: dict[str, str], said: str
) -> None:
    """What a server refuses for good, or one that is not trusted, is told as what it is."""
    dsn = make_conninfo(tiny.target_dsn, **change)
    with running(tiny, to(receiver, {"CDC_TARGET_DSN": dsn})) as daemon:
        assert daemon.process.wait(30) == 78, daemon.log()
    assert receiver.told() == [("halted", "firing", "critical")]
    assert said in receiver.requests[0].content["detail"]


def test_a_port_that_is_taken(tiny: Pair, receiver: Receiver) -> None:
    """What may be well when it is started again is no halt: exit 75, and nobody is called."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with running(tiny, to(receiver, {"CDC_HTTP_LISTEN": listen})) as daemon:
            assert daemon.process.wait(30) == 75, daemon.log()
    assert receiver.requests == []


def nowhere(pair: Pair) -> dict[str, str]:
    """Give the settings by which the target is a database that does not exist."""
    return {"CDC_TARGET_DSN": make_conninfo(pair.target_dsn, dbname="nowhere")}


def test_a_command_with_an_end_tells_nobody(tiny: Pair, receiver: Receiver) -> None:
    """Who runs it by hand sees what it says."""
    assert run_cdc(tiny, "init", env=to(receiver)).returncode == 0
    run_sql(tiny.target_dsn, REFUSE)
    run_sql(tiny.source_dsn, REFUSED)
    assert run_cdc(tiny, "run", "--until-current", env=to(receiver)).returncode == 78
    assert receiver.requests == []


# What comes and goes


def test_lag(tiny: Pair, receiver: Receiver) -> None:
    """Behind by more than the limit: told once, however long, and once when it is over."""
    with streaming(tiny, to(receiver, LAGS)) as daemon:
        with behind(tiny):
            wait_until(lambda: bool(receiver.requests))
            time.sleep(3)
        wait_until(lambda: len(receiver.requests) > 1)
        assert daemon.terminate() == 0, daemon.log()
    assert receiver.told() == [("lagging", "firing", "warning"), ("lagging", "resolved", "warning")]
    first, last = (request.content for request in receiver.requests)
    assert first["incident"] == last["incident"]


def test_the_budget_of_the_slot(tiny: Pair, receiver: Receiver) -> None:
    """Half used is a warning, four fifths are critical, with bytes left; then it is over."""
    with limited_wal(tiny, "64MB"), streaming(tiny, to(receiver)) as daemon:
        stoppable(tiny.target).stop()
        fill(tiny, 0.55)
        wait_until(lambda: len(receiver.told("wal_budget")) == 1)
        fill(tiny, 0.85)
        wait_until(lambda: len(receiver.told("wal_budget")) == 2)
        stoppable(tiny.target).start()
        wait_until(lambda: len(receiver.told("wal_budget")) == 3, 60)
        assert daemon.terminate() == 0, daemon.log()
    told = [(status, severity) for _, status, severity in receiver.told("wal_budget")]
    assert told[:2] == [("firing", "warning"), ("firing", "critical")]
    assert told[2][0] == "resolved"
    details = [r.content["detail"] for r in receiver.requests if r.content["alert"] == "wal_budget"]
    assert all("bytes left" in detail for detail in details)
    assert receiver.told("target_away") == [
        ("target_away", "firing", "warning"),
        ("target_away", "resolved", "warning"),
    ]


def test_a_target_that_is_away_from_the_start(tiny: Pair, receiver: Receiver) -> None:
    """It is the target that is told of, not the source; then that it is back."""
    assert run_cdc(tiny, "init").returncode == 0
    stoppable(tiny.target).stop()
    with running(tiny, to(receiver)) as daemon:
        wait_until(lambda: bool(receiver.requests))
        time.sleep(2)
        stoppable(tiny.target).start()
        wait_until(lambda: len(receiver.requests) > 1, 60)
        assert daemon.terminate() == 0, daemon.log()
    assert receiver.told() == [
        ("target_away", "firing", "warning"),
        ("target_away", "resolved", "warning"),
    ]


def test_a_source_that_is_away(tiny: Pair, receiver: Receiver) -> None:
    """Nothing is copied meanwhile: critical; then it is back."""
    with streaming(tiny, to(receiver)) as daemon:
        stoppable(tiny.source).stop()
        wait_until(lambda: bool(receiver.requests))
        stoppable(tiny.source).start()
        wait_until(lambda: len(receiver.requests) > 1, 60)
        assert daemon.terminate() == 0, daemon.log()
    assert receiver.told() == [
        ("source_away", "firing", "critical"),
        ("source_away", "resolved", "critical"),
    ]


def test_a_quarantine(tiny: Pair, receiver: Receiver) -> None:
    """A change that waits there is told of, without its values, while the daemon goes on."""
    env = to(receiver, {"CDC_APPLY_ON_ERROR": "quarantine"})
    with streaming(tiny, env) as daemon:
        run_sql(tiny.target_dsn, REFUSE)
        run_sql(tiny.source_dsn, REFUSED)
        wait_until(lambda: bool(receiver.requests))
        assert daemon.terminate() == 0, daemon.log()
    assert receiver.told() == [("quarantine", "firing", "warning")]
    assert "cdc quarantine" in receiver.requests[0].content["next"]
    assert VALUE not in receiver.requests[0].body.decode()


def test_rows_that_differ(tiny: Pair, receiver: Receiver) -> None:
    """A verification that finds some is told of once, by whichever daemon; then that it is over."""
    with streaming(tiny, to(receiver)) as daemon:
        run_sql(tiny.source_dsn, INSERT, 1, 10)
        wait_until(lambda: rows(tiny) == 10)
        run_sql(tiny.target_dsn, "update credit.account set note = %s where id = 1", VALUE)
        assert run_cdc(tiny, "verify").returncode == 1
        wait_until(lambda: bool(receiver.requests))
        assert daemon.terminate() == 0, daemon.log()
    content = receiver.requests[0].content
    assert content["detail"].startswith("credit.account differs at ")
    assert "cdc verify --repair" in content["next"]
    assert VALUE not in receiver.requests[0].body.decode()
    with streaming(tiny, to(receiver)) as daemon:
        time.sleep(3)
        assert len(receiver.requests) == 1
        assert run_cdc(tiny, "verify", "--repair").returncode == 0
        wait_until(lambda: len(receiver.requests) > 1)
        assert daemon.terminate() == 0, daemon.log()
    assert receiver.told() == [
        ("verification", "firing", "critical"),
        ("verification", "resolved", "critical"),
    ]


def test_a_verification_without_a_result(tiny: Pair, receiver: Receiver) -> None:
    """It says so where it was run, and nobody is called."""
    with streaming(tiny, to(receiver)) as daemon:
        with behind(tiny), spawn_cdc(tiny, "verify") as verifying:
            wait_until(lambda: fetch(tiny.target_dsn, HEARD) == [True])
            verifying.kill()
            daemon.wait_for_log("a verification has come to no result")
        time.sleep(2)
        assert daemon.terminate() == 0, daemon.log()
    assert receiver.requests == []


# Receivers


def test_a_receiver_that_fails_twice(tiny: Pair, receiver: Receiver) -> None:
    """It gets the same alert three times, by the same id, and takes it once."""
    receiver.answers = [500, 503]
    with streaming(tiny, to(receiver, LAGS)) as daemon:
        with behind(tiny):
            daemon.wait_for_log("alert delivered")
        assert daemon.terminate() == 0, daemon.log()
    assert len(receiver.requests[:3]) == 3
    assert len({request.body for request in receiver.requests[:3]}) == 1
    assert daemon.log().count('"status":"firing"') == 2, "one failure, one delivery"


def test_a_receiver_that_refuses(tiny: Pair, receiver: Receiver) -> None:
    """It is taken at its word, the log says so, and the next alert is tried."""
    receiver.answers = [404]
    with streaming(tiny, to(receiver, LAGS)) as daemon:
        with behind(tiny):
            daemon.wait_for_log("alert not delivered")
        daemon.wait_for_log("alert delivered")
        assert daemon.terminate() == 0, daemon.log()
    assert [status for _, status, _ in receiver.told()] == ["firing", "resolved"]
    assert "the receiver answered 404" in daemon.log()


@pytest.mark.parametrize("how", ["hangs", "away"])
def test_a_receiver_that_gives_no_answer(tiny: Pair, receiver: Receiver, how: str) -> None:
    """The stream goes on meanwhile, and the daemon ends within seconds when it is told to."""
    receiver.awake.clear()
    env = to(receiver, LAGS)
    if how == "away":
        env["CDC_ALERTS_URL"] = f"http://127.0.0.1:{free_port()}/{SECRET}"
    with streaming(tiny, env) as daemon:
        with behind(tiny):
            if how == "hangs":
                wait_until(lambda: bool(receiver.requests))
            else:
                daemon.wait_for_log("alert not delivered yet")
        wait_until(lambda: rows(tiny) == 10)
        run_sql(tiny.source_dsn, INSERT, 11, 20)
        wait_until(lambda: rows(tiny) == 20)
        assert daemon.terminate() == 0, daemon.log()
    assert "the daemon has ended before the receiver answered" in daemon.log()


def test_a_halt_that_nobody_takes(tiny: Pair, receiver: Receiver) -> None:
    """It exits with its code all the same; since nobody was told, the next process tries again."""
    receiver.awake.clear()
    env = to(receiver, nowhere(tiny))
    with running(tiny, env) as daemon:
        assert daemon.process.wait(30) == 78, daemon.log()
    assert "alert not delivered" in daemon.log()
    receiver.awake.set()
    with running(tiny, env) as daemon:
        assert daemon.process.wait(30) == 78, daemon.log()
    assert "alert delivered" in daemon.log()


def test_settings_that_change(tiny: Pair, receiver: Receiver) -> None:
    """SIGHUP with another URL and another key: from then on alerts go there, signed by it."""
    write_settings(tiny.settings, receiver.url, KEY, max_rows=1000)
    with receiving() as other, streaming(tiny, LAGS) as daemon:
        write_settings(tiny.settings, other.url, KEY[::-1], max_rows=1001)
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: daemon.log().count(STREAMING) == 2)
        with behind(tiny):
            wait_until(lambda: bool(other.requests))
        assert daemon.terminate() == 0, daemon.log()
    (request, *_) = other.requests
    assert is_genuine(request.headers, request.body, KEY[::-1].encode())
    assert receiver.requests == []


def write_settings(path: Path, url: str, key: str, *, max_rows: int) -> None:
    """Write the file that the daemon reads; with another `max_rows` it streams anew."""
    path.write_text(f'[alerts]\nurl = "{url}"\nkey = "{key}"\n[apply]\nmax_rows = {max_rows}\n')


# The command


def test_the_test(receiver: Receiver) -> None:
    """`cdc alert test` sends one alert, says what came back, and needs no database."""
    result = run_cdc(None, "alert", "test", env=to(receiver))
    assert (result.returncode, result.stdout) == (0, "delivered: the receiver answered 200 OK\n")
    assert receiver.told() == [("test", "firing", "warning")]
    (request,) = receiver.requests
    assert is_genuine(request.headers, request.body, KEY.encode())
    assert SECRET not in result.stderr


def test_a_test_that_fails(receiver: Receiver) -> None:
    """It is tried once, exits 1, and the answer is told, not the URL."""
    receiver.answers = [503]
    result = run_cdc(None, "alert", "test", env=to(receiver))
    assert result.returncode == 1
    assert result.stdout == "not delivered: the receiver answered 503 Service Unavailable\n"
    assert len(receiver.requests) == 1
    assert SECRET not in result.stderr


def test_a_test_without_url() -> None:
    """There is nobody to send it to: exit 78, and how to name somebody."""
    result = run_cdc(None, "alert", "test")
    assert (result.returncode, result.stdout) == (78, "")
    assert "CDC_ALERTS_URL" in result.stderr


def test_secrets_are_masked(tmp_path: Path) -> None:
    """URL and key come as two credentials, and `cdc config show` has neither."""
    (tmp_path / "alerts.url").write_text(f"https://hooks.example/{SECRET}\n")
    (tmp_path / "alerts.key").write_text(f"{KEY}\n")
    env = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    result = run_cdc(None, "config", "show", "--json", env=env)
    assert SECRET not in result.stdout
    assert KEY not in result.stdout
    shown = {s["name"]: s for s in json.loads(result.stdout)["settings"]}
    assert shown["alerts.url"]["origin"] == shown["alerts.key"]["origin"] == "credentials"
    assert set(shown["alerts.url"]["value"]) == {"*"}

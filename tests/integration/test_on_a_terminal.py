"""Answers on a terminal: what is bad is seen before it is read; a pipe gets plain text."""

import json
import os
import pty
import re
import subprocess
import sys

import pytest

from cdc.lsn import parse_lsn
from tests.accounts import INSERT, SCHEMA
from tests.databases import migrate, run_sql, wait_until
from tests.pair import Pair
from tests.process import environment, ok, run_cdc, streaming

COLOURED = re.compile(r"^([\w ]+?) +\x1b\[(\d+)m(.*?)\x1b\[0m", re.MULTILINE)

GREEN, YELLOW, RED = "32", "33", "31"


@pytest.fixture
def tiny(pair: Pair) -> Pair:
    """Two databases that are equal, and nobody who streams."""
    migrate(pair, SCHEMA)
    ok(pair, "init")
    return pair


def test_all_is_well(tiny: Pair) -> None:
    """While the daemon keeps up everything is green, with the WAL budget beside it."""
    shown: dict[str, tuple[str, str]] = {}

    def green() -> bool:
        shown.update(colours(tiny))
        return {colour for colour, _ in shown.values()} == {GREEN}

    with streaming(tiny):
        ok(tiny, "verify")
        wait_until(green, 60)
    assert shown["streaming"] == (GREEN, "yes")
    assert shown["WAL budget"] == (GREEN, "no limit")


def test_what_is_bad_is_red(tiny: Pair) -> None:
    """Changes that nobody copies, with the command that does; a gap that stands in the ledger."""
    run_sql(tiny.source_dsn, INSERT, 1, 9)
    run_sql(
        tiny.target_dsn,
        "insert into cdc.ledger (slot, event, detail, from_lsn) values (%s, 'a gap', 'x', '0/1')",
        tiny.slot,
    )
    shown = colours(tiny)
    assert shown["streaming"] == (RED, "no: start `cdc run`")
    assert shown["behind"][0] == RED
    assert shown["ledger"] == (RED, "a gap: x")
    assert shown["checkpoint"][0] == GREEN
    assert shown["verified"] == (YELLOW, "never: `cdc verify`")
    assert "\x1b" not in ok(tiny, "status").stdout


def test_what_was_verified(tiny: Pair) -> None:
    """Where, when and how much; tables that differ are red, with the command that mends them."""
    run_sql(tiny.source_dsn, INSERT, 1, 9)
    with streaming(tiny):
        ok(tiny, "verify")
        lsn = json.loads(ok(tiny, "status", "--json").stdout)["verification"]["lsn"]
        equal = colours(tiny)["verified"]
        run_sql(tiny.target_dsn, "delete from credit.account where id = 9")
        run_cdc(tiny, "verify", "credit.account")
    told = json.loads(ok(tiny, "status", "--json").stdout)["verification"]
    different = colours(tiny)["verified"]
    assert re.fullmatch(rf"equal \(9 rows of 1 table at {lsn}, \d+\.\d s ago\)", equal[1])
    mend = "rows differ in credit.account: `cdc verify --repair` (9 rows of 1 table at "
    assert different[1].startswith(mend)
    assert (equal[0], different[0]) == (GREEN, RED)
    assert 0 < told.pop("age_seconds") < 60
    assert parse_lsn(told.pop("lsn")) > parse_lsn(lsn)
    only = ["credit.account"]
    assert told == {"tables": 1, "rows": 9, "only": only, "differing": only}


def test_a_verdict(tiny: Pair) -> None:
    """The stage of the verdict is red; while it is looked for, a line says which side is asked."""
    run_sql(tiny.source_dsn, INSERT, 1, 9)
    drawn = on_terminal(tiny, "explain", "lag")
    assert drawn.startswith("looking at the source …\n")
    assert f"\x1b[{RED}m\x1b[1mdaemon\x1b[0m: nobody streams" in drawn
    piped = ok(tiny, "explain", "lag")
    assert (piped.stdout.partition(":")[0], piped.stderr) == ("daemon", "")


def test_a_verification(tiny: Pair) -> None:
    """While it goes on a line says at what it is; the verdict is green, and a pipe gets tabs."""
    with streaming(tiny):
        drawn = on_terminal(tiny, "verify")
        piped = ok(tiny, "verify")
    assert "comparing 1 table" in drawn
    assert re.search(rf"\x1b\[{GREEN}mequal at [0-9A-F]+/[0-9A-F]+\x1b\[0m", drawn)
    table, verdict = piped.stdout.splitlines()[1:]
    assert table.split("\t") == ["credit.account", "0", "0", "0", "0", "0"]
    assert verdict.startswith("equal at ")


def test_last_words(tiny: Pair) -> None:
    """A failure is text: the problem in red, below it what to do."""
    run_sql(tiny.source_dsn, "select pg_drop_replication_slot(%s)", tiny.slot)
    drawn = on_terminal(tiny, "lag", exit_code=78)
    assert drawn.startswith(
        f"\x1b[{RED}mcdc: the source has no slot {tiny.slot}\x1b[0m\n     `cdc "
    )


def colours(pair: Pair) -> dict[str, tuple[str, str]]:
    """Give the colour and the text of each value of `cdc status` that has a colour."""
    found = COLOURED.findall(on_terminal(pair, "status"))
    return {name: (colour, value) for name, colour, value in found}


def on_terminal(pair: Pair, *arguments: str, exit_code: int = 0) -> str:
    """Give what a command draws."""
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "cdc", *arguments]
    given = environment(pair, {"TERM": "xterm"})
    with subprocess.Popen(command, env=given, stdout=follower, stderr=follower) as process:
        os.close(follower)
        drawn = b""
        try:
            while chunk := os.read(leader, 1 << 16):
                drawn += chunk
        except OSError:
            pass  # the end of a terminal is an error on Linux
        os.close(leader)
        assert process.wait() == exit_code, drawn
    return drawn.decode().replace("\r\n", "\n")

"""Answers on a terminal: what is bad is seen before it is read; a pipe gets plain text."""

import os
import pty
import re
import subprocess
import sys

import pytest

from tests.accounts import INSERT, SCHEMA
from tests.databases import migrate, run_sql, wait_until
from tests.pair import Pair
from tests.process import environment, ok, streaming

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
    assert "\x1b" not in ok(tiny, "status").stdout


def test_a_verdict(tiny: Pair) -> None:
    """The stage of the verdict is red; while it is looked for, a line says which side is asked."""
    run_sql(tiny.source_dsn, INSERT, 1, 9)
    drawn = on_terminal(tiny, "explain", "lag")
    assert drawn.startswith("looking at the source …\n")
    assert f"\x1b[{RED}m\x1b[1mdaemon\x1b[0m: nobody streams" in drawn
    piped = ok(tiny, "explain", "lag")
    assert (piped.stdout.partition(":")[0], piped.stderr) == ("daemon", "")


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

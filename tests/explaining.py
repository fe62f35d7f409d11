"""What the tests of `cdc explain lag` share: a daemon at rest, the question, the answer."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg.conninfo import make_conninfo

from tests.databases import fetch, wait_until
from tests.pair import Pair
from tests.process import Daemon, run_cdc, streaming


@dataclass(frozen=True, slots=True)
class Said:
    """What the command has said of a pair."""

    exit_code: int
    behind: bool
    verdict: str
    asked_target: bool
    findings: dict[str, tuple[str, str]]
    """What was seen and what to do next, by stage."""

    @property
    def seen(self) -> str:
        """What was seen at the stage of the verdict."""
        return self.findings[self.verdict][0]

    @property
    def next(self) -> str:
        """What to do about the verdict."""
        return self.findings[self.verdict][1]


@contextmanager
def running(pair: Pair, env: dict[str, str] | None = None) -> Iterator[Daemon]:
    """Run a daemon that has copied, and has nothing left to do; it often speaks to its source."""
    talkative = {"CDC_SOURCE_DSN": make_conninfo(pair.source_dsn, keepalives_idle=3)}
    with streaming(pair, talkative | (env or {})) as daemon:
        behind = "select confirmed_flush_lsn < %s from pg_replication_slots where slot_name = %s"
        (written,) = fetch(pair.source_dsn, "select pg_current_wal_lsn()::text")
        wait_until(lambda: fetch(pair.source_dsn, behind, written, pair.slot) == [False])
        yield daemon


def explain(pair: Pair, env: dict[str, str] | None = None) -> Said:
    """Ask."""
    result = run_cdc(pair, "explain", "lag", "--json", env=env)
    assert result.stdout, result.stderr
    answer = json.loads(result.stdout)
    findings = {f["stage"]: (f["seen"], f["next"]) for f in reversed(answer["findings"])}
    assert answer["findings"][0]["stage"] == answer["verdict"]
    return Said(
        result.returncode, answer["behind"], answer["verdict"], answer["asked_target"], findings
    )

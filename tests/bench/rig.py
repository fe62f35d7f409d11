"""Two servers with the credit schema, and the daemon draining a backlog between them, measured."""

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cdc.assure.verify.comparison import TableComparison
from cdc.assure.verify.quiet import compare
from cdc.demo.display import Display
from cdc.postgres.session import connect
from tests.bench.usage import Usage
from tests.bench.workloads import accounts
from tests.databases import run_sql
from tests.pair import Pair, make_pair
from tests.process import ok, spawn_cdc
from tests.servers import SessionServers, Versions

SAMPLE_S = 0.05

DRAIN_TIMEOUT_S = 7200.0


@dataclass(slots=True)
class Drained:
    """How the daemon did."""

    seconds: float
    peak_rss_bytes: int
    cpu_s: float


@contextmanager
def prepared(display: Display) -> Iterator[Pair]:
    """Start servers, make accounts and copy them: what comes from now on goes through the slot."""
    with tempfile.TemporaryDirectory() as folder, closing(SessionServers()) as servers:
        display.show("starting", "two servers")
        with make_pair(servers, Versions(), Path(folder) / "state", credit=True) as pair:
            for statement in accounts():
                run_sql(pair.source_dsn, statement)
            ok(pair, "init")
            display.say("two servers, the credit schema on both")
            yield pair


def drain(pair: Pair, watch: Callable[[], None], env: Mapping[str, str] | None = None) -> Drained:
    """Run `cdc run --until-current` to its end; call `watch` all the while."""
    usage, since = Usage(), time.monotonic()
    with spawn_cdc(pair, "run", "--until-current", env=env) as daemon:
        while daemon.process.poll() is None:
            usage.sample(daemon.process.pid)
            watch()
            assert time.monotonic() - since < DRAIN_TIMEOUT_S, "the daemon does not come to an end"
            time.sleep(SAMPLE_S)
        assert daemon.process.returncode == 0, daemon.log()
    return Drained(time.monotonic() - since, usage.peak_rss_bytes, usage.cpu_s)


def verify(pair: Pair, display: Display) -> dict[str, TableComparison]:
    """Assert that both sides hold the same rows, each compared as text; return the counts."""

    def report(table: str, counts: TableComparison) -> None:
        display.show("comparing", f"{table}: {counts.source_rows:,} rows")

    async def run() -> dict[str, TableComparison]:
        async with (
            await connect(pair.source_dsn) as source,
            await connect(pair.target_dsn) as target,
        ):
            return await compare(source, target, ["credit"], report)

    tables = asyncio.run(run())
    unequal = [name for name, counts in tables.items() if not counts.equal]
    assert not unequal, f"not the same rows on both sides: {', '.join(unequal)}"
    return tables

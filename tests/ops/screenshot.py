"""Takes the README's picture: the status page of a busy daemon, `python -m tests.ops.screenshot`.

    python -m tests.ops.screenshot [--folder docs] [--all]

Two servers, the credit schema, writers, and a daemon that takes an hour of samples in a good
minute; all else is as always. `--all`: also in the dark, and as a phone shows it.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import psycopg

from cdc.demo.workload import Workload, load
from tests.databases import run_sql
from tests.ops.browser import chromium, open_page
from tests.pair import Pair, execute, make_pair
from tests.process import environment, ok
from tests.servers import SessionServers, Versions
from tests.serving import free_port

HOUR_S = 72.0

# Samples are dated as if time had passed so much faster until now.
_SHORT_HOUR = f"""
import asyncio
from dataclasses import replace
from cdc import service
from cdc.cli import main
from cdc.observe.now import now

async def sample(history, vitals):
    end = now().unix_s + {HOUR_S}
    while True:
        moment = now()
        left = max(end - moment.unix_s, 0)
        history.look(vitals, moment)
        told = end - left * 3600 / {HOUR_S} if left else moment.unix_s
        history._samples[-1] = replace(history._samples[-1], unix_s=told)
        history.since_unix_s = end - 3600
        if left == 0 and vitals.target._past_s == 0:
            vitals.target._past_s = 3600 - {HOUR_S}  # in which it was kept awake too
        await asyncio.sleep({HOUR_S} / 720 if left else 5)

service._sample = sample
main()
"""


# More than one transaction of the application brings.
_IMPORT = """
insert into credit.audit_events (actor, entity, entity_key, action)
select 'import', 'application', n::text, 'scored' from generate_series(1, %s) n
"""


VIEWS: tuple[tuple[str, int, Literal["light", "dark"]], ...] = (
    ("page", 1240, "light"),
    ("page-dark", 1240, "dark"),
    ("page-phone", 360, "light"),
)


@contextmanager
def pair_with_rows() -> Iterator[Pair]:
    """Make two databases, one with rows, on a source that gives up a slot that holds back much."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = SessionServers()
        stack.callback(servers.close)
        made = stack.enter_context(make_pair(servers, Versions(), folder / "state", credit=True))
        execute(made.source, "alter system set max_slot_wal_keep_size = '4GB'")
        execute(made.source, "select pg_reload_conf()")
        load(made.source_dsn, 200_000)
        pair = replace(made, slot="cdc_credit", publication="cdc_credit")
        ok(pair, "init")
        yield pair


@contextmanager
def short_hour(pair: Pair) -> Iterator[str]:
    """Run a daemon in whose minute there is an hour; give the address of its page."""
    listen = f"127.0.0.1:{free_port()}"
    with subprocess.Popen(
        [sys.executable, "-c", _SHORT_HOUR, "run"],
        env=environment(pair, {"CDC_HTTP_LISTEN": listen}),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield f"http://{listen}/"
        finally:
            process.terminate()


def _import(pair: Pair, times: int) -> None:
    for _ in range(times):
        run_sql(pair.source_dsn, _IMPORT, 300)
        time.sleep(0.1)


def live_through(pair: Pair) -> None:
    """Let an ordinary hour pass: quiet and busy times, imports, a lock, a verification."""
    end = time.monotonic() + HOUR_S
    time.sleep(10)
    with Workload(pair.source_dsn, seed=2, rate=110):
        time.sleep(9)
    time.sleep(6)
    _import(pair, 40)
    time.sleep(4)
    with psycopg.connect(pair.target_dsn) as blocking:
        blocking.execute("lock table credit.audit_events in share mode")
        time.sleep(2)
    with Workload(pair.source_dsn, seed=3, rate=140):
        time.sleep(10)
    time.sleep(9)
    _import(pair, 15)
    ok(pair, "verify")
    time.sleep(max(end - time.monotonic() + 2, 0))


def main() -> None:
    """Take the picture, or all of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.ops.screenshot")
    parser.add_argument("--folder", type=Path, default=Path("docs"))
    parser.add_argument("--all", action="store_true", help="dark and phone too")
    asked = parser.parse_args()
    views = VIEWS if asked.all else VIEWS[:1]
    with (
        pair_with_rows() as pair,
        short_hour(pair) as url,
        Workload(pair.source_dsn, rate=45),
        chromium() as browser,
    ):
        live_through(pair)
        for name, width, scheme in views:
            page = open_page(browser, url, width=width, scale=1.25).page
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            page.wait_for_timeout(5_000)  # two answers more: what moves is seen from the second on
            page.screenshot(path=asked.folder / f"{name}.png", full_page=True)


if __name__ == "__main__":
    main()

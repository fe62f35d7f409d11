"""The daemon killed as the kernel kills: no warning, at any moment."""

import random
import time

from cdc.demo.workload import Workload, load
from tests.pair import Pair, same_rows
from tests.process import run_cdc, spawn_cdc

KILLS = 10


def test_ten_kills_under_load(credit_pair: Pair) -> None:
    """Killed ten times while changes stream, the next run leaves both sides equal."""
    load(credit_pair.source_dsn, 2_000)
    moments = random.Random(7)
    with Workload(credit_pair.source_dsn, seed=7, rate=300) as workload:
        for _ in range(KILLS):
            with spawn_cdc(credit_pair, "run") as daemon:
                daemon.wait_for_log("streaming")
                time.sleep(moments.uniform(0.0, 0.6))
                daemon.kill()
        assert workload.running
    result = run_cdc(credit_pair, "run", "--until-current")
    assert result.returncode == 0, result.stderr
    assert workload.transactions > 0
    same_rows(credit_pair)


def test_killed_while_it_copies(credit_pair: Pair) -> None:
    """Killed during the snapshot, the next run begins the copy anew and ends equal."""
    load(credit_pair.source_dsn, 20_000)
    moments = random.Random(8)
    for _ in range(3):
        with spawn_cdc(credit_pair, "run") as daemon:
            time.sleep(moments.uniform(0.4, 1.0))
            daemon.kill()
    result = run_cdc(credit_pair, "run", "--until-current")
    assert result.returncode == 0, result.stderr
    same_rows(credit_pair)

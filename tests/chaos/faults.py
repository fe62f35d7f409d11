"""The faults of the matrix, as data: a name, and what happens. Moments are random, and seeded."""

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg

from tests.chaos.stage import Stage
from tests.databases import run_sql
from tests.faults.proxy import Fault, Proxy
from tests.process import run_cdc

TABLES = ("audit", "audit_bare", "account", "entry")


@dataclass(slots=True, frozen=True)
class Trouble:
    """A fault of the matrix."""

    name: str
    happens: Callable[[Stage, random.Random], None]


def _kill(stage: Stage, chance: random.Random) -> None:
    time.sleep(chance.uniform(0, 0.8))
    stage.kill()


def _kill_at_start(stage: Stage, chance: random.Random) -> None:
    stage.kill()
    stage.start()
    time.sleep(chance.uniform(0, 1.5))
    stage.kill()


def _kill_before_commit(stage: Stage, _chance: random.Random) -> None:
    proxy = stage.before_target
    proxy.held.clear()
    proxy.begin(Fault.HOLD_COMMIT)
    proxy.held.wait(5)
    stage.kill()
    proxy.heal()


def _kill_after_commit(stage: Stage, _chance: random.Random) -> None:
    proxy = stage.before_target
    proxy.lost.clear()
    proxy.begin(Fault.LOSE_COMMIT)
    proxy.lost.wait(5)
    stage.kill()
    proxy.heal()


def _kill_mid_batch(stage: Stage, chance: random.Random) -> None:
    stage.before_target.begin(Fault.STALL)
    time.sleep(chance.uniform(0.05, 0.5))
    stage.kill()
    stage.before_target.heal()


def _kill_after_bytes(stage: Stage, chance: random.Random) -> None:
    """Behind a COPY, a statement, the checkpoint: after so many bytes of the target's answers."""
    stage.before_target.stall_after(chance.randint(1, 2000))
    time.sleep(chance.uniform(0.1, 0.5))
    stage.kill()
    stage.before_target.heal()


def _kill_before_confirmation(stage: Stage, chance: random.Random) -> None:
    stage.before_source.begin(Fault.STALL)
    time.sleep(chance.uniform(0.1, 0.5))
    stage.kill()
    stage.before_source.heal()


def _lose_commit(stage: Stage, _chance: random.Random) -> None:
    proxy = stage.before_target
    proxy.lost.clear()
    proxy.begin(Fault.LOSE_COMMIT)
    proxy.lost.wait(5)
    proxy.heal()


def _line(side: str, fault: Fault, least_s: float, most_s: float) -> Trouble:
    def happens(stage: Stage, chance: random.Random) -> None:
        proxy: Proxy = stage.before_source if side == "source" else stage.before_target
        proxy.begin(fault)
        time.sleep(chance.uniform(least_s, most_s))
        proxy.heal()

    return Trouble(f"{side}: {fault.name.lower().replace('_', ' ')}", happens)


def _server(side: str, how: str) -> Trouble:
    def happens(stage: Stage, chance: random.Random) -> None:
        server = stage.source if side == "source" else stage.target
        if how == "crashes":
            server.kill()
        else:
            server.stop()
        time.sleep(chance.uniform(0, 2) if how != "is away" else 4)
        server.start()

    return Trouble(f"{side} {how}", happens)


def _sessions_end(stage: Stage, _chance: random.Random) -> None:
    for dsn in (stage.pair.source_admin_dsn, stage.pair.target_admin_dsn):
        run_sql(
            dsn,
            "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()"
            " and datname = current_database() and application_name like 'cdc%'",
        )


def _freeze(stage: Stage, chance: random.Random) -> None:
    os.killpg(stage.daemon.process.pid, signal.SIGSTOP)
    time.sleep(chance.uniform(1, 5))
    os.killpg(stage.daemon.process.pid, signal.SIGCONT)


def _resync(stage: Stage, chance: random.Random) -> None:
    table = chance.choice(TABLES)
    run_cdc(stage.pair, "resync", f"credit.{table}")
    time.sleep(chance.uniform(0, 0.5))


def _resync_and_kill(stage: Stage, chance: random.Random) -> None:
    for _ in range(3):
        _resync(stage, chance)
        time.sleep(chance.uniform(0, 1.0))
        stage.kill()
        stage.start()


def _lose_slot(stage: Stage, _chance: random.Random) -> None:
    stage.kill()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            run_sql(
                stage.pair.source_admin_dsn, "select pg_drop_replication_slot(%s)", stage.pair.slot
            )
        except psycopg.errors.ObjectInUse:
            time.sleep(0.2)
        else:
            return


TROUBLES = (
    Trouble("kill -9, any moment", _kill),
    Trouble("kill -9 while it starts", _kill_at_start),
    Trouble("kill -9 after receive, in the batch", _kill_mid_batch),
    Trouble("kill -9 behind any answer", _kill_after_bytes),
    Trouble("kill -9 before the COMMIT", _kill_before_commit),
    Trouble("kill -9 after the COMMIT", _kill_after_commit),
    Trouble("kill -9 before the confirmation", _kill_before_confirmation),
    Trouble("reply to COMMIT lost", _lose_commit),
    _line("source", Fault.RESET, 0, 1),
    _line("target", Fault.RESET, 0, 1),
    _line("source", Fault.END, 0, 1),
    _line("target", Fault.END, 0, 1),
    _line("source", Fault.STALL, 3, 8),
    _line("target", Fault.STALL, 3, 8),
    _line("source", Fault.DELAY, 1, 3),
    _line("target", Fault.DELAY, 1, 3),
    _server("source", "restarts"),
    _server("target", "restarts"),
    _server("source", "crashes"),
    _server("target", "crashes"),
    _server("target", "is away"),
    Trouble("all sessions ended", _sessions_end),
    Trouble("daemon frozen", _freeze),
    Trouble("resync", _resync),
    Trouble("resync, killed thrice", _resync_and_kill),
    Trouble("slot lost", _lose_slot),
)

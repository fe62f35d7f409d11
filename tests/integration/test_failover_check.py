"""`cdc failover check`: could the target take over now, and what would be lost; promote refuses."""

import json
import socket
import time
from dataclasses import dataclass

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from cdc.assure.spooled import peek
from cdc.lsn import parse_lsn
from tests.databases import checkpoint, confirmed, fetch, run_sql, wait_until
from tests.failing_over import (
    Bank,
    asked,
    copied_bank,
    dead_source,
    definitions,
    reading,
    subjects,
)
from tests.pair import Pair
from tests.preflight import settings_of
from tests.process import ok, run_cdc, spawn_cdc, streaming

LATE = "insert into credit.bank values ('late', 'x')"
GAP = (
    "insert into cdc.ledger (slot, event, detail, from_lsn)"
    " values (%s, 'position lost', 'x', '0/1')"
)
HELD = (
    "insert into cdc.quarantine (slot, lsn, table_schema, table_name, operation)"
    " values (%s, '0/1', 'credit', 'bank', 'insert')"
)
COPYING = "update cdc.copy set completed_at = null where slot = %s and table_name = 'bank'"
NEVER_COPIED = (
    "update cdc.copy set completed_at = null, relation = null"
    " where slot = %s and table_name = 'bank'"
)


@pytest.fixture
def bank(pair: Pair) -> Bank:
    """A pair that is copied."""
    return copied_bank(pair)


def test_a_copy_that_could_take_over(bank: Bank) -> None:
    """Exit 0, with where it stands and what promotion would do; nothing is altered by asking."""
    pair = bank.pair
    prepared = definitions(pair.target_admin_dsn)
    answer = asked(pair, "check")
    assert (answer["ok"], answer["source"], answer["caught_up"]) == (True, "answers", True)
    assert answer["checkpoint_lsn"] == checkpoint(pair)
    to_do = answer["to_do"]
    assert isinstance(to_do, list)
    assert "credit.account: trigger touch fires again" in to_do
    assert "credit.account: column id is GENERATED ALWAYS AS IDENTITY again" in to_do
    assert any("foreign key of_bank acts again" in line for line in to_do)
    assert "sequence credit.account_id_seq goes on at 21" in to_do
    assert definitions(pair.target_admin_dsn) == prepared
    shown = ok(pair, "failover", "check").stdout
    assert "ok: the target could take over, at " in shown
    # Disabled before there was a copy.
    assert "warns   target trigger off of credit.bank: is disabled, and not by us" in shown


def test_a_source_that_is_ahead(bank: Bank) -> None:
    """If it ended now, so much would be lost: to be known. To promote meanwhile is refused."""
    pair = bank.pair
    run_sql(pair.source_dsn, LATE)
    answer = asked(pair, "check")
    assert answer["ok"] is True
    assert f"source slot {pair.slot}" in subjects(answer, "warns")
    assert isinstance(answer["lag_bytes"], int)
    assert answer["lag_bytes"] > 0
    refused = asked(pair, "promote", "--yes", code=1)
    assert subjects(refused, "loses", "refused") == [f"source slot {pair.slot}"]
    assert asked(pair, "check")["promoted_at"] is None
    forced = asked(pair, "promote", "--yes", "--force")
    accepted = forced["accepted"]
    assert isinstance(accepted, list)
    assert "is behind by" in accepted[0]
    ledger = "select detail like '%%accepted as lost%%' from cdc.ledger where event = 'promoted'"
    assert fetch(pair.target_dsn, ledger.replace("%%", "%")) == [True]


def test_a_source_that_is_written_to(bank: Bank) -> None:
    """By a transaction that is open: it may commit after the promotion, so that is refused."""
    pair = bank.pair
    with psycopg.connect(pair.source_dsn, application_name="an application") as source:
        source.execute(LATE)
        refused = asked(pair, "promote", "--yes", code=1)
    assert subjects(refused, "loses", "refused") == ["source sessions"]
    assert "an application" in json.dumps(refused)


def test_a_planned_switchover(bank: Bank) -> None:
    """Nobody writes to the source any more and the daemon has come to the end: nothing is lost."""
    pair = bank.pair
    with streaming(pair):
        run_sql(pair.source_dsn, LATE)
        wait_until(lambda: bool(fetch(pair.target_dsn, LATE_IS_THERE)))
        answer = asked(pair, "promote", "--yes")
    assert answer["accepted"] == []
    assert fetch(pair.target_dsn, LATE_IS_THERE) == [1]
    assert definitions(pair.target_admin_dsn) == bank.before


LATE_IS_THERE = "select 1 from credit.bank where code = 'late'"


@dataclass(frozen=True, slots=True)
class Hindrance:
    """Something on the target for which a promotion is refused."""

    statement: str
    subject: str


LOSSES = {
    "gap": Hindrance(GAP, "target cdc.ledger"),
    "quarantine": Hindrance(HELD, "target cdc.quarantine"),
    "copy anew": Hindrance(COPYING, "target credit.bank"),
    "first copy": Hindrance(NEVER_COPIED, "target credit.bank"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_copy_that_lacks_something(bank: Bank, name: str) -> None:
    """The answer is no, and it is refused with the same; --force accepts it, and says so."""
    pair, loss = bank.pair, LOSSES[name]
    run_sql(pair.target_dsn, loss.statement, pair.slot)
    with dead_source(pair):
        assert subjects(asked(pair, "check", code=1), "loses") == [loss.subject]
        refused = asked(pair, "promote", "--yes", code=1)
        assert subjects(refused, "loses", "refused") == [loss.subject]
        assert definitions(pair.target_admin_dsn) != bank.before
        assert asked(pair, "drill", code=1)["ok"] is False
        accepted = asked(pair, "promote", "--yes", "--force")["accepted"]
    assert isinstance(accepted, list)
    assert accepted[0].startswith(loss.subject)
    assert definitions(pair.target_admin_dsn) == bank.before


def test_a_copy_under_way_has_its_foreign_keys_back(bank: Bank) -> None:
    """While a table is filled it has none; forced, they are put back for rows to come."""
    pair = bank.pair
    run_sql(pair.target_dsn, TAKEN_OFF)
    with dead_source(pair):
        forced = asked(pair, "promote", "--yes", "--force")
    assert forced["unvalidated"] == []
    assert definitions(pair.target_admin_dsn) == bank.before


TAKEN_OFF = """
alter table credit.account drop constraint of_bank;
update cdc.copy set completed_at = null, relation = null, foreign_keys = array[
  'alter table "credit"."account" add constraint "of_bank" foreign key (bank)'
  ' references credit.bank (code) deferrable initially immediate']
 where table_name = 'account'
"""


def test_changes_in_the_spool(bank: Bank) -> None:
    """What is queued on this machine is not on the target; the daemon applies it, source or not."""
    pair = bank.pair
    env = {"CDC_SPOOL_MAX_BYTES": "10000000", "CDC_SPOOL_AFTER": "0.3"}
    with spawn_cdc(pair, "run", env=env) as daemon:
        daemon.wait_for_log('"message":"streaming"')
        run_sql(pair.target_admin_dsn, f"alter database {pair.slot} connection limit 0")
        run_sql(pair.target_admin_dsn, END_DAEMON)
        run_sql(pair.source_dsn, LATE)
        wait_until(lambda: peek(settings_of(pair)) is not None, 60)
        daemon.kill()
    run_sql(pair.target_admin_dsn, f"alter database {pair.slot} connection limit -1")
    with dead_source(pair):
        found = subjects(asked(pair, "check", code=1), "loses")
        assert found == [f"target spool in {pair.state_dir}"]
        with spawn_cdc(pair, "run", env=env):
            wait_until(lambda: bool(fetch(pair.target_dsn, LATE_IS_THERE)), 60)
            wait_until(lambda: run_cdc(pair, "failover", "check").returncode == 0, 60)


END_DAEMON = (
    "select pg_terminate_backend(pid) from pg_stat_activity"
    " where datname = current_database() and pid <> pg_backend_pid()"
)


def test_a_range_that_nobody_here_knows(bank: Bank) -> None:
    """Confirmed beyond the checkpoint, on a machine without the daemon's files: it is not taken."""
    pair = bank.pair
    with streaming(pair):
        run_sql(pair.source_dsn, "create table public.other as select generate_series(1, 1000)")
        wait_until(lambda: parse_lsn(confirmed(pair)) > parse_lsn(checkpoint(pair)))
        assert asked(pair, "check")["ok"] is True
        moved = run_cdc(pair, "failover", "check", "--json", env={"CDC_STATE_DIR": "/nowhere"})
    assert moved.returncode == 1
    assert subjects(json.loads(moved.stdout), "loses") == [f"source slot {pair.slot}"]


def test_tables_of_somebody_else(bank: Bank) -> None:
    """What our role may not alter stays as it is: so there can be no promotion, by no force."""
    pair = bank.pair
    run_sql(pair.target_admin_dsn, "alter table credit.account owner to postgres")
    run_sql(pair.target_admin_dsn, f"grant all on credit.account to {OWNER}")
    with dead_source(pair):
        found = subjects(asked(pair, "check", code=1), "breaks")
        assert "target credit.account" in found
        assert "target credit.account_id_seq" in found
        refused = asked(pair, "promote", "--yes", "--force", code=1)
        assert "target credit.account" in subjects(refused, "breaks", "refused")


OWNER = "app_target"


def test_a_lock_of_somebody_else(bank: Bank) -> None:
    """Promotion gives up within seconds, says who holds what, and has changed nothing."""
    pair = bank.pair
    with dead_source(pair), reading(pair.target_dsn, "credit.account"):
        began = time.monotonic()
        result = run_cdc(pair, "failover", "promote", "--yes")
        assert time.monotonic() - began < 60
        assert result.returncode == 75, result.stdout
        assert "a reader" in result.stderr
        assert "pg_terminate_backend" in result.stderr
        assert definitions(pair.target_admin_dsn) != bank.before
        assert asked(pair, "check")["promoted_at"] is None


@pytest.mark.parametrize("verb", ["check", "drill"])
def test_a_table_that_is_altered(bank: Bank, verb: str) -> None:
    """It cannot be read meanwhile: nobody waits for ever, and it is said by whom."""
    pair = bank.pair
    with psycopg.connect(pair.target_dsn, application_name="a migration") as migration:
        migration.execute("alter table credit.account add column more int")
        result = run_cdc(pair, "failover", verb, timeout_s=60)
    assert result.returncode == 75, result.stdout
    assert "locked by PID" in result.stderr
    assert "a migration" in result.stderr


def test_a_target_that_was_never_a_copy(pair: Pair) -> None:
    """There is nothing to promote."""
    with dead_source(pair):
        answer = asked(pair, "check", code=1)
        assert subjects(answer, "breaks") == [f"target slot {pair.slot}"]
        assert asked(pair, "promote", "--yes", "--force", code=1)
        assert asked(pair, "drill", code=1)["ok"] is False


def test_a_source_that_is_silent(bank: Bank) -> None:
    """It takes connections and says nothing: within seconds it counts as away."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        silent = make_conninfo("", host="127.0.0.1", port=server.getsockname()[1], user="x")
        result = run_cdc(
            bank.pair, "failover", "check", "--json", env={"CDC_SOURCE_DSN": silent}, timeout_s=60
        )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["source"] == "away"


def test_a_source_that_refuses_us(bank: Bank) -> None:
    """It lives: others may write to it, so what it has beyond the copy is a loss."""
    pair = bank.pair
    unknown = make_conninfo(pair.source_dsn, user="nobody_of_that_name")
    result = run_cdc(pair, "failover", "check", "--json", env={"CDC_SOURCE_DSN": unknown})
    assert result.returncode == 1
    answer = json.loads(result.stdout)
    assert (answer["source"], subjects(answer, "loses")) == ("refuses", ["source server"])


def test_nobody_to_ask(bank: Bank) -> None:
    """Without a terminal and without --yes it is a question of usage."""
    result = run_cdc(bank.pair, "failover", "promote")
    assert result.returncode == 2
    assert "--yes" in result.stderr


def test_rows_that_the_source_has_deleted(bank: Bank) -> None:
    """Where the target keeps them, the application will see them: that is said, with the mend."""
    pair = bank.pair
    pair.settings.write_text('[tables."credit.bank"]\ndeletes = "soft"\n')
    assert "target credit.bank" in subjects(asked(pair, "check"), "warns")


def test_changes_that_are_gathered(bank: Bank) -> None:
    """In bursts the target is behind on purpose: that much ends with the source."""
    bank.pair.settings.write_text("[apply]\nflush_interval = 900\n")
    (mend,) = mends_of(asked(bank.pair, "check"), "setting apply.flush_interval")
    assert mend.startswith("export CDC_APPLY_FLUSH_INTERVAL=0")


def test_an_application_that_could_not_write(bank: Bank) -> None:
    """Nobody has privileges but the owner, a role reads only: both are named, with the mend."""
    pair = bank.pair
    mends = mends_of(asked(pair, "check"), "privileges")
    assert 'grant select, insert, update, delete on all tables in schema "credit"' in mends[0]
    role = f"{pair.slot}_application"
    run_sql(pair.target_admin_dsn, f"create role {role}")
    try:
        run_sql(
            pair.target_admin_dsn,
            f"grant usage on schema credit to {role};"
            f" grant insert on all tables in schema credit to {role};"
            f" alter role {role} set default_transaction_read_only = on;",
        )
        answer = asked(pair, "check")
        assert mends_of(answer, "privileges") == []
        (mend,) = mends_of(answer, f"role {role}")
        run_sql(pair.target_admin_dsn, mend)
        assert mends_of(asked(pair, "check"), f"role {role}") == []
    finally:
        run_sql(pair.target_admin_dsn, f"drop owned by {role}; drop role {role}")


def mends_of(answer: dict[str, object], subject: str) -> list[str]:
    """Give what mends the findings about a subject."""
    findings = answer["findings"]
    assert isinstance(findings, list)
    return [finding["mend"] for finding in findings if finding["subject"] == subject]

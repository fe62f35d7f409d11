"""With apply.on_error = quarantine, a change that the target refuses waits, and others go on."""

import json
import random

import psycopg
import pytest

from tests.databases import (
    fetch,
    migrate,
    run_sql,
    schema_publication,
    wait_until,
    waits_for_lock,
)
from tests.pair import Pair, same_rows
from tests.process import ok, run_cdc, spawn_cdc, streaming
from tests.servers import on_every_version

SECRET = "31337"
QUARANTINE = {"CDC_APPLY_ON_ERROR": "quarantine"}

TABLES = """
create schema credit;
create table credit.account (id int primary key, balance numeric, body text);
create table credit.entry (
    id int primary key,
    account int references credit.account deferrable initially deferred,
    n int
);
create table credit.rate (rate numeric primary key, n int);
create table credit.bare (n int, t text);
alter table credit.bare replica identity full;
"""
SMALL = "alter table credit.account add constraint small check (balance < 1000)"
MEND = "alter table credit.account drop constraint small"


@on_every_version
def test_a_refused_change_waits_and_later_ones_of_its_row_behind_it(pair: Pair) -> None:
    """All else goes on, of the same table and transaction too; mended, the rows are the source's.

    Neither the log nor the list says a value; `show` does.
    """
    prepare(pair, SMALL)
    with psycopg.connect(pair.source_dsn, autocommit=True) as source:
        source.execute(f"insert into credit.account values (1, 1), (2, {SECRET}), (3, 3)")
        source.execute("update credit.account set balance = balance + 1")
        source.execute("update credit.account set body = 'later' where id = 2")
        source.execute("insert into credit.entry values (1, 1, 1)")
    result = drain(pair)
    assert "credit.account (key id)" in result
    assert "small" in result
    assert SECRET not in result
    assert fetch(pair.target_dsn, "select id, balance from credit.account order by 1") == [
        *(1, 2, 3, 4)
    ]
    assert fetch(pair.target_dsn, "select count(*) from credit.entry") == [1]

    listed = entries(pair)
    assert [(e["operation"], e["waits_for"]) for e in listed] == [
        ("insert", None),
        ("update", listed[0]["id"]),
        ("update", listed[0]["id"]),
    ]
    assert listed[0]["key"] == ["id"]
    assert "CheckViolation (23514) constraint small" in str(listed[0]["reason"])
    assert SECRET not in ok(pair, "quarantine", "list").stdout
    assert "3 changes" in ok(pair, "status").stdout
    assert "cdc.quarantine: holds 3 changes" in run_cdc(pair, "check").stdout
    assert f"after balance  {SECRET}" in ok(pair, "quarantine", "show", str(listed[0]["id"])).stdout

    refused = run_cdc(pair, "quarantine", "retry")
    assert refused.returncode == 1
    assert "0 of 3 applied" in refused.stdout
    run_sql(pair.target_dsn, MEND)
    assert "3 of 3 applied" in ok(pair, "quarantine", "retry").stdout
    assert same_rows(pair)["account"] == 3
    assert entries(pair) == []


def test_one_bad_row_among_thousands_waits_alone(pair: Pair) -> None:
    """Found by halves, in a large transaction that is applied in parts too."""
    prepare(pair, SMALL)
    rows = f"select n, case when n in (77, 4242) then {SECRET} else 1 end"
    run_sql(pair.source_dsn, f"insert into credit.account {rows} from generate_series(1, 5000) n")
    run_sql(pair.source_dsn, "update credit.account set body = 'x' where id % 7 = 0")
    drain(pair, CDC_APPLY_MAX_ROWS="1000")
    assert fetch(pair.target_dsn, "select count(*) from credit.account") == [4998]
    # 77 and 4242 are both multiples of 7.
    assert len(entries(pair)) == 4
    run_sql(pair.target_dsn, MEND)
    ok(pair, "quarantine", "retry")
    assert same_rows(pair)["account"] == 5000


def test_a_key_that_changes_hands_the_waiting_on(pair: Pair) -> None:
    """Whatever comes under the old or the new key waits, over several runs of the daemon."""
    prepare(pair, SMALL)
    with psycopg.connect(pair.source_dsn, autocommit=True) as source:
        source.execute(f"insert into credit.account values (1, {SECRET}), (5, 5)")
        drain(pair)
        source.execute("update credit.account set id = 2, balance = 2 where id = 1")
        source.execute("insert into credit.account values (1, 10)")
        drain(pair)
        source.execute("update credit.account set id = 3 where id = 2")
        source.execute("update credit.account set id = 2 where id = 5")
        source.execute("delete from credit.account where id = 1")
        source.execute("insert into credit.account values (7, 7)")
        drain(pair)
    found = fetch(pair.target_dsn, "select id from credit.account order by 1")
    assert found == [5, 7], "what waits left the target as it was"
    assert len(entries(pair)) == 6
    run_sql(pair.target_dsn, MEND)
    ok(pair, "quarantine", "retry")
    assert same_rows(pair)["account"] == 3


def test_a_table_that_does_not_fit_waits_as_a_whole(pair: Pair) -> None:
    """A column that the target lacks: all changes of its table, nothing of others.

    Of a table that the target lacks nothing waits: it is copied once it is there.
    """
    prepare(pair)
    with psycopg.connect(pair.source_dsn, autocommit=True) as source:
        source.execute("insert into credit.account values (1, 1)")
        source.execute("alter table credit.account add column note text")
        source.execute("create table credit.extra (id int primary key)")
        source.execute("insert into credit.account values (2, 2, 'body', 'note')")
        source.execute("insert into credit.extra values (1)")
        source.execute("update credit.account set note = 'n' where id = 1")
        source.execute("insert into credit.bare values (1, 'goes on')")
    drain(pair)
    assert fetch(pair.target_dsn, "select t from credit.bare") == ["goes on"]
    assert [e["relation"] for e in entries(pair)] == ["credit.account", "credit.account"]
    run_sql(pair.target_dsn, "alter table credit.account add column note text")
    ok(pair, "quarantine", "retry")
    run_sql(pair.target_dsn, "create table credit.extra (id int primary key)")
    run_sql(pair.source_dsn, "insert into credit.extra values (2)")
    drain(pair)
    assert same_rows(pair)["extra"] == 2


def test_rows_that_refer_to_what_waits_wait_too(pair: Pair) -> None:
    """Their foreign key speaks when the transaction ends; retried, they come in order."""
    prepare(pair, SMALL)
    run_sql(
        pair.source_dsn,
        "insert into credit.entry select n, n % 3, n from generate_series(1, 9) n;"
        f"insert into credit.account values (0, 0), (1, {SECRET}), (2, 2)",
    )
    run_sql(pair.source_dsn, "insert into credit.entry values (10, 1, 10), (11, 2, 11)")
    drain(pair)
    assert fetch(pair.target_dsn, "select id from credit.account order by 1") == [0, 2]
    assert len(entries(pair)) >= 4
    run_sql(pair.target_dsn, MEND)
    ok(pair, "quarantine", "retry")
    assert same_rows(pair) == {"account": 3, "entry": 11, "rate": 0, "bare": 0}


def test_a_truncate_ends_the_waiting(pair: Pair) -> None:
    """What waited is gone on the source; what comes after the truncate goes on."""
    prepare(pair, SMALL)
    with psycopg.connect(pair.source_dsn, autocommit=True) as source:
        source.execute(f"insert into credit.account values (1, {SECRET}), (2, 2)")
        drain(pair)
        source.execute("update credit.account set balance = 7 where id = 1")
        source.execute("truncate credit.account cascade")
        source.execute("insert into credit.account values (1, 1)")
        drain(pair)
    assert entries(pair) == []
    assert same_rows(pair)["account"] == 1
    resolved = json.loads(ok(pair, "quarantine", "list", "--all", "--json").stdout)["entries"]
    assert [e["resolution"] for e in resolved] == ["truncated", "truncated"]


def test_keys_that_are_equal_in_other_words(pair: Pair) -> None:
    """1.0 is 1.00, so that no row of the table can be told from one that waits."""
    prepare(pair, "alter table credit.rate add constraint small check (n < 1000)")
    with psycopg.connect(pair.source_dsn, autocommit=True) as source:
        source.execute(f"insert into credit.rate values (1.0, {SECRET})")
        drain(pair)
        source.execute("delete from credit.rate")
        source.execute("insert into credit.rate values (1.00, 1), (2, 2)")
    drain(pair)
    assert fetch(pair.target_dsn, "select count(*) from credit.rate") == [0]
    run_sql(pair.target_dsn, "alter table credit.rate drop constraint small")
    ok(pair, "quarantine", "retry")
    assert same_rows(pair)["rate"] == 2


def test_rows_without_a_key(pair: Pair) -> None:
    """Told apart by all their values."""
    prepare(pair, "alter table credit.bare add constraint small check (n < 1000)")
    with psycopg.connect(pair.source_dsn, autocommit=True) as source:
        source.execute(f"insert into credit.bare values (1, null), (1, null), ({SECRET}, null)")
        source.execute(f"update credit.bare set t = 'x' where n = {SECRET}")
        source.execute("update credit.bare set t = 'y' where n = 1")
        source.execute(f"delete from credit.bare where n = {SECRET}")
        source.execute(f"insert into credit.bare values ({SECRET}, 'again')")
    drain(pair)
    assert fetch(pair.target_dsn, "select t from credit.bare") == ["y", "y"]
    run_sql(pair.target_dsn, "alter table credit.bare drop constraint small")
    ok(pair, "quarantine", "retry")
    assert same_rows(pair)["bare"] == 3


def test_skipped_changes_are_in_the_ledger(pair: Pair) -> None:
    """What waited behind one can be applied then; an entry that there is not is refused."""
    prepare(pair, SMALL)
    run_sql(pair.source_dsn, f"insert into credit.account values (1, {SECRET})")
    drain(pair)
    run_sql(pair.source_dsn, "update credit.account set balance = 1")
    drain(pair)
    first = str(entries(pair)[0]["id"])
    assert run_cdc(pair, "quarantine", "skip", "--yes", "4711").returncode == 78
    ok(pair, "quarantine", "skip", "--yes", first)
    ok(pair, "quarantine", "retry")
    assert same_rows(pair)["account"] == 1
    ledger = fetch(pair.target_dsn, "select detail from cdc.ledger where event = 'change skipped'")
    assert f"insert of credit.account, entry {first}" in str(ledger[0])


def test_what_waits_goes_on_waiting_for_a_daemon_that_halts(pair: Pair) -> None:
    """The setting is about new refusals; rows that wait are never overtaken."""
    prepare(pair, SMALL)
    run_sql(pair.source_dsn, f"insert into credit.account values (1, {SECRET}), (2, 2)")
    drain(pair)
    run_sql(pair.source_dsn, "update credit.account set balance = 5")
    ok(pair, "run", "--until-current")
    assert fetch(pair.target_dsn, "select id, balance from credit.account") == [2, 5]
    assert len(entries(pair)) == 2
    run_sql(pair.source_dsn, f"insert into credit.account values (3, {SECRET})")
    assert run_cdc(pair, "run", "--until-current").returncode == 78


def test_a_new_copy_holds_what_waited(pair: Pair) -> None:
    """Made again, the copy is whole, and nothing waits any more."""
    prepare(pair, SMALL)
    run_sql(pair.source_dsn, f"insert into credit.account values (1, {SECRET}), (2, 2)")
    drain(pair)
    run_sql(pair.target_dsn, MEND)
    run_sql(pair.target_dsn, "update cdc.checkpoint set lsn = null")
    ok(pair, "init")
    assert entries(pair) == []
    run_sql(pair.source_dsn, "update credit.account set balance = 3")
    drain(pair)
    assert same_rows(pair)["account"] == 2


def test_the_quarantine_is_emptied_under_a_running_daemon(pair: Pair) -> None:
    """The next change of a row that waited is applied: the daemon finds that nothing waits."""
    prepare(pair, SMALL)
    with streaming(pair, QUARANTINE) as daemon:
        run_sql(pair.source_dsn, f"insert into credit.account values (1, {SECRET})")
        daemon.wait_for_log("in quarantine now")
        run_sql(pair.source_dsn, "update credit.account set body = 'waits'")
        wait_until(lambda: len(entries(pair)) == 2)
        run_sql(pair.target_dsn, MEND)
        ok(pair, "quarantine", "retry")
        for n in range(3):
            run_sql(pair.source_dsn, f"update credit.account set body = 'n {n}'")
        body = "select body from credit.account"
        wait_until(lambda: fetch(pair.target_dsn, body) == ["n 2"])
        assert daemon.terminate() == 0
    assert same_rows(pair)["account"] == 1
    assert entries(pair) == []


def test_the_quarantine_is_emptied_before_a_replay(pair: Pair) -> None:
    """The daemon finds out between two transactions that it commits: neither is applied twice."""
    prepare(pair, SMALL)
    with streaming(pair, QUARANTINE) as daemon:
        run_sql(pair.source_dsn, f"insert into credit.account values (1, {SECRET})")
        daemon.wait_for_log("in quarantine now")
        wait_until(lambda: len(entries(pair)) == 1)
        run_sql(pair.target_dsn, MEND)
        ok(pair, "quarantine", "retry")
        with psycopg.connect(pair.target_dsn) as blocker:
            blocker.execute("lock table credit.bare")
            run_sql(pair.source_dsn, "insert into credit.bare values (1, 'waits for the lock')")
            wait_until(lambda: waits_for_lock(pair.target_dsn))
            # Gathered behind it: one batch, replayed for its truncate.
            for n in range(2, 5):
                run_sql(pair.source_dsn, f"insert into credit.bare values ({n}, 'once')")
            run_sql(pair.source_dsn, "truncate credit.rate")
            run_sql(pair.source_dsn, "update credit.account set body = 'after the retry'")
        body = "select body from credit.account"
        wait_until(lambda: fetch(pair.target_dsn, body) == ["after the retry"])
        assert daemon.terminate() == 0
    assert entries(pair) == []
    assert same_rows(pair)["bare"] == 4


@pytest.mark.parametrize("seed", range(4))
def test_any_changes_in_any_order(pair: Pair, seed: int) -> None:
    """Random changes, some refused; killed on the way; mended and retried, all rows are equal."""
    prepare(pair, SMALL, "alter table credit.entry add constraint odd check (n % 5 <> 0)")
    chance = random.Random(seed)
    with psycopg.connect(pair.source_dsn, autocommit=True) as source:
        for _ in range(120):
            change(source, chance)
        with spawn_cdc(pair, "run", env=QUARANTINE) as daemon:
            daemon.wait_for_log("in quarantine now")
            daemon.kill()
        for _ in range(60):
            change(source, chance)
        drain(pair)
        waiting = entries(pair)
        assert any(e["waits_for"] is None for e in waiting)
        assert any(e["waits_for"] is not None for e in waiting)
        run_sql(pair.target_dsn, MEND)
        run_sql(pair.target_dsn, "alter table credit.entry drop constraint odd")
        run_cdc(pair, "quarantine", "retry", str(waiting[0]["id"]))
        for _ in range(30):
            change(source, chance)
        drain(pair)
    ok(pair, "quarantine", "retry")
    assert same_rows(pair)["account"] > 0


def change(source: psycopg.Connection[tuple[object, ...]], chance: random.Random) -> None:
    """Change something in a transaction of its own, as far as keys and references allow it."""
    key, other = chance.sample(range(12), 2)
    money = chance.choice([1, 2, 3, 2000])
    unreferenced = f"not exists (select from credit.entry where account = {key})"
    free = f"not exists (select from credit.account where id = {other})"
    accounts = f"select {key}, id, {money} from credit.account where id = {other}"
    statements = [
        f"insert into credit.account values ({key}, {money}) on conflict do nothing",
        f"update credit.account set balance = {money} where id = {key}",
        f"update credit.account set id = {other} where id = {key} and {free} and {unreferenced}",
        f"delete from credit.account where id = {key} and {unreferenced}",
        f"insert into credit.entry {accounts} on conflict do nothing",
        f"update credit.entry set n = {chance.randrange(20)} where id = {key}",
        f"update credit.entry set account = null where id = {key}",
        f"delete from credit.entry where account = {key}",
    ]
    with source.transaction():
        for statement in chance.choices(statements, k=chance.randrange(1, 4)):
            source.execute(statement.encode())


def prepare(pair: Pair, *target_only: str) -> None:
    """Make the tables, the pair ready to stream, and what only the target has."""
    migrate(pair, TABLES)
    run_sql(pair.source_admin_dsn, schema_publication(pair))
    ok(pair, "init")
    for statement in target_only:
        run_sql(pair.target_dsn, statement)


def drain(pair: Pair, **env: str) -> str:
    """Bring the target up to date as far as it takes the changes, and give what was logged."""
    result = run_cdc(pair, "run", "--until-current", env=QUARANTINE | env)
    assert result.returncode == 0, result.stderr
    return result.stderr


def entries(pair: Pair) -> list[dict[str, object]]:
    """Give what is in quarantine."""
    listed: list[dict[str, object]] = json.loads(ok(pair, "quarantine", "list", "--json").stdout)[
        "entries"
    ]
    return listed

"""Bugs of the quarantine that a review found: what waits is not overtaken, and has an end."""

import psycopg
import pytest

from tests.databases import fetch, run_sql, wait_until, waits_for_lock
from tests.integration.test_quarantine import (
    MEND,
    QUARANTINE,
    SECRET,
    SMALL,
    drain,
    entries,
    prepare,
)
from tests.pair import Pair, same_rows
from tests.process import ok, run_cdc, streaming


def received(pair: Pair, lsn: str) -> bool:
    """Tell whether the daemon was sent what is before an LSN."""
    query = "select sent_lsn >= %s::pg_lsn from pg_stat_replication where pid = (select"
    slot = " active_pid from pg_replication_slots where slot_name = %s)"
    return fetch(pair.source_admin_dsn, query + slot, lsn, pair.slot) == [True]


def ids(pair: Pair) -> list[str]:
    """Give the numbers of what is in quarantine."""
    return [str(entry["id"]) for entry in entries(pair)]


@pytest.mark.parametrize("verb", [("retry",), ("skip", "--yes")])
def test_a_truncate_that_waits_holds_its_table(pair: Pair, verb: tuple[str, ...]) -> None:
    """Also when what it waited for is gone: rows that come later are not emptied by it."""
    prepare(pair)
    with psycopg.connect(pair.source_dsn, autocommit=True) as source:
        source.execute("alter table credit.rate add column note text")
        source.execute("insert into credit.rate values (1, 1, 'before')")
        source.execute("truncate credit.rate")
        drain(pair)
        first, truncate = ids(pair)
        run_sql(pair.target_dsn, "alter table credit.rate add column note text")
        ok(pair, "quarantine", *verb, first)
        source.execute("insert into credit.rate values (5, 5, 'after')")
        drain(pair)
        assert ids(pair)[0] == truncate
        assert len(ids(pair)) == 2
        overtaking = run_cdc(pair, "quarantine", "retry", ids(pair)[1])
        assert overtaking.returncode == 1
        assert f"waits for entry {truncate}" in overtaking.stdout
    ok(pair, "quarantine", "retry")
    assert same_rows(pair)["rate"] == 1


def test_keys_in_other_words_behind_an_entry_that_is_gone(pair: Pair) -> None:
    """The delete of 1.0 waits yet, when 1.00 comes."""
    prepare(pair, "alter table credit.rate add constraint small check (n < 1000)")
    with psycopg.connect(pair.source_dsn, autocommit=True) as source:
        source.execute(f"insert into credit.rate values (1.0, {SECRET})")
        drain(pair)
        source.execute("delete from credit.rate")
        drain(pair)
        run_sql(pair.target_dsn, "alter table credit.rate drop constraint small")
        ok(pair, "quarantine", "retry", ids(pair)[0])
        source.execute("insert into credit.rate values (1.00, 1)")
        drain(pair)
    ok(pair, "quarantine", "retry")
    assert same_rows(pair)["rate"] == 1


def test_chosen_entries_do_not_overtake_one_another(pair: Pair) -> None:
    """One that waits for an entry which was not chosen holds those behind it, which were."""
    prepare(pair, SMALL)
    with psycopg.connect(pair.source_dsn, autocommit=True) as source:
        source.execute(f"insert into credit.account values (1, {SECRET})")
        drain(pair)
        source.execute("update credit.account set id = 2")
        source.execute("update credit.account set balance = 5")
        source.execute("update credit.account set balance = 7")
        drain(pair)
    refused = run_cdc(pair, "quarantine", "retry", *ids(pair)[1:])
    assert refused.returncode == 1
    assert "0 of 3 applied" in refused.stdout
    run_sql(pair.target_dsn, MEND)
    ok(pair, "quarantine", "retry")
    assert same_rows(pair)["account"] == 1


def test_a_row_that_is_known_by_other_columns(pair: Pair) -> None:
    """The replica identity changes while a change waits: what comes then waits as well."""
    prepare(pair, SMALL)
    for dsn in (pair.source_dsn, pair.target_dsn):
        run_sql(dsn, "alter table credit.account alter body set not null")
        run_sql(dsn, "create unique index by_body on credit.account (body)")
    with psycopg.connect(pair.source_dsn, autocommit=True) as source:
        source.execute("insert into credit.account values (1, 1, 'key')")
        drain(pair)
        source.execute(f"update credit.account set balance = {SECRET}")
        drain(pair)
        source.execute("alter table credit.account replica identity using index by_body")
        source.execute("update credit.account set balance = 7")
        drain(pair)
    assert len(ids(pair)) == 2
    run_sql(pair.target_dsn, MEND)
    ok(pair, "quarantine", "retry")
    assert fetch(pair.target_dsn, "select balance from credit.account") == [7]
    assert same_rows(pair)["account"] == 1


def test_a_replay_that_is_cut_off_between_two_transactions(pair: Pair) -> None:
    """The session is lost behind the first of them: a new stream brings the rest, once."""
    prepare(pair, SMALL)
    with streaming(pair, QUARANTINE) as daemon:
        run_sql(pair.source_dsn, f"insert into credit.account values (1, {SECRET})")
        daemon.wait_for_log("in quarantine now")
        with psycopg.connect(pair.target_dsn) as entry_lock:
            entry_lock.execute("lock table credit.entry")
            with psycopg.connect(pair.target_dsn) as blocker:
                blocker.execute("lock table credit.bare")
                run_sql(pair.source_dsn, "insert into credit.bare values (1, 'waits')")
                wait_until(lambda: waits_for_lock(pair.target_dsn))
                # One batch behind it, replayed for its truncate.
                run_sql(pair.source_dsn, "insert into credit.bare values (2, 'first')")
                run_sql(pair.source_dsn, "insert into credit.entry values (1, null, 1)")
                run_sql(pair.source_dsn, "truncate credit.rate")
                run_sql(pair.source_dsn, "update credit.account set balance = 2")
                (end,) = fetch(pair.source_dsn, "select pg_current_wal_lsn()::text")
                wait_until(lambda: received(pair, str(end)))
            count = "select count(*) from credit.bare"
            wait_until(lambda: fetch(pair.target_dsn, count) == [2])
            wait_until(lambda: waits_for_lock(pair.target_dsn))
            run_sql(
                pair.target_admin_dsn,
                "select pg_terminate_backend(pid) from pg_stat_activity where"
                " datname = current_database() and wait_event_type = 'Lock'",
            )
        wait_until(lambda: len(ids(pair)) == 2)
        assert daemon.terminate() == 0
    assert same_rows(pair, tables=("bare", "entry")) == {"bare": 2, "entry": 1}


def test_a_reference_in_a_transaction_that_comes_in_parts(pair: Pair) -> None:
    """What refers to a row that waits, in the last part, waits too."""
    prepare(pair, SMALL)
    run_sql(
        pair.source_dsn,
        f"insert into credit.account select n, case n when 3 then {SECRET} else 1 end"
        " from generate_series(1, 2000) n;"
        "insert into credit.entry select n, n, n from generate_series(10, 20) n;"
        "insert into credit.entry values (1, 3, 1)",
    )
    drain(pair, CDC_APPLY_MAX_ROWS="1000")
    assert fetch(pair.target_dsn, "select count(*) from credit.account") == [1999]
    run_sql(pair.target_dsn, MEND)
    ok(pair, "quarantine", "retry")
    assert same_rows(pair) == {"account": 2000, "entry": 12, "rate": 0, "bare": 0}


def test_a_value_too_long_for_an_index_of_the_targets_own(pair: Pair) -> None:
    """A limit of the server (54000) is a refusal like any other."""
    prepare(pair, "create index on credit.account (body)")
    run_sql(
        pair.source_dsn,
        "insert into credit.account select 1, 1, string_agg(md5(i::text), '')"
        " from generate_series(1, 300) i; insert into credit.account values (2, 2)",
    )
    assert "credit.account (key id)" in drain(pair)
    assert fetch(pair.target_dsn, "select id from credit.account") == [2]


def test_tables_that_were_truncated_together_are_so_again(pair: Pair) -> None:
    """They refer to each other, so that none can be emptied by itself."""
    prepare(pair)
    run_sql(pair.source_dsn, "insert into credit.account values (1, 1, 'a')")
    run_sql(pair.source_dsn, "insert into credit.entry values (1, 1, 1)")
    drain(pair)
    run_sql(pair.target_dsn, "create table public.other (account int references credit.account)")
    run_sql(pair.source_dsn, "truncate credit.entry, credit.account")
    run_sql(pair.source_dsn, "insert into credit.account values (2, 2, 'b')")
    drain(pair)
    assert len(ids(pair)) == 3
    run_sql(pair.target_dsn, "drop table public.other")
    ok(pair, "quarantine", "retry")
    assert same_rows(pair, tables=("account", "entry")) == {"account": 1, "entry": 0}

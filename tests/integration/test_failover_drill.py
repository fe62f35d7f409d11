"""`cdc failover drill`: a promotion for real, of which nothing is left."""

import pytest

from tests.databases import fetch, run_sql, wait_until
from tests.failing_over import Bank, asked, booking, copied_bank, dead_source, definitions, reading
from tests.pair import Pair, same_rows
from tests.process import STREAMING, run_cdc, streaming

DRILLS = "select event, detail from cdc.ledger where event like 'failover%' order by id"

# What a drill could leave behind: definitions, numbers, the checkpoint.
STATE = """
select (select string_agg(c::text, '') from cdc.checkpoint c),
       (select string_agg(oid::text || relfilenode::text || xmin::text, ',' order by oid)
          from pg_class where relnamespace = 'credit'::regnamespace),
       (select string_agg(oid::text || xmin::text, ',' order by oid) from pg_constraint),
       (select last_value::text || is_called::text from credit.account_id_seq)
"""

WRITERS = (
    "select pid from pg_stat_activity"
    " where datname = current_database() and application_name = 'cdc'"
)
LAST = "select 1 from credit.bank where code = 'last'"


@pytest.fixture
def bank(pair: Pair) -> Bank:
    """A pair that is copied."""
    return copied_bank(pair)


def test_nothing_is_left_of_it(bank: Bank) -> None:
    """All is done and rolled back: catalog, sequences and checkpoint are what they were."""
    pair = bank.pair
    before, state = definitions(pair.target_admin_dsn), fetch(pair.target_admin_dsn, STATE)
    answer = asked(pair, "drill")
    done = answer["done"]
    assert isinstance(done, list)
    assert "credit.account: trigger touch fires again" in done
    assert "sequence credit.account_id_seq goes on at 21" in done
    assert (answer["ok"], answer["tries"], answer["problem"]) == (True, 1, None)
    assert definitions(pair.target_admin_dsn) == before
    assert fetch(pair.target_admin_dsn, STATE) == state
    (event, detail) = fetch(pair.target_dsn, DRILLS)
    assert event == "failover drill"
    assert str(detail).startswith("ok: ")


def test_it_does_what_a_promotion_does(bank: Bank) -> None:
    """The same list: what was rehearsed is what is done."""
    pair = bank.pair
    with dead_source(pair):
        rehearsed = asked(pair, "drill")["done"]
        assert asked(pair, "promote", "--yes")["done"] == rehearsed


def test_the_daemon_goes_on(bank: Bank) -> None:
    """Under load: batches wait for a moment, nothing is lost, and the stream does not end."""
    pair = bank.pair
    with streaming(pair) as daemon:
        with booking(pair):
            wait_until(lambda: len(fetch(pair.target_admin_dsn, WRITERS)) == 1)
            writers = fetch(pair.target_admin_dsn, WRITERS)
            assert [asked(pair, "drill")["ok"] for _ in range(4)] == [True] * 4
            assert fetch(pair.target_admin_dsn, WRITERS) == writers
        run_sql(pair.source_dsn, "insert into credit.bank values ('last', 'x')")
        wait_until(lambda: bool(fetch(pair.target_dsn, LAST)))
        assert daemon.log().count(STREAMING) == 1
    assert same_rows(pair)["account"] > 20


def test_who_is_in_the_way(bank: Bank) -> None:
    """A reader with an open transaction: the drill fails and names it, and so would a promotion."""
    pair = bank.pair
    with reading(pair.target_dsn, "credit.event_1"):
        answer = asked(pair, "drill", code=1)
        shown = run_cdc(pair, "failover", "drill")
    assert "a reader" in str(answer["problem"])
    assert "pg_terminate_backend" in str(answer["hint"])
    assert "a promotion would fail: tables are locked by PID" in shown.stdout
    assert fetch(pair.target_dsn, DRILLS)[0] == "failover drill failed"


def test_after_a_promotion(bank: Bank) -> None:
    """There is nothing to rehearse: exit 1, so that nobody takes it for a drill."""
    asked(bank.pair, "promote", "--yes")
    assert asked(bank.pair, "drill", code=1)["promoted_at"] is not None
    assert fetch(bank.pair.target_dsn, DRILLS) == []

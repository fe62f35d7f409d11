"""The credit schema, and the rows and writers that the demo and other tests fill it with."""

import time

import psycopg
import pytest
from psycopg import sql

from cdc.demo.workload import Workload, load
from cdc.demo.workload.everyday import abandon
from cdc.demo.workload.live import CATCH_UP_S, TRANSACTIONS
from tests.pair import PINNED, SUPABASE_EXTRAS, Pair
from tests.servers import on_every_version

ROWS = 3000

TABLES = (
    "applications",
    "audit_events",
    "businesses",
    "credit_accounts",
    "documents",
    "offers",
    "payment_schedules",
    "provider_rates",
    "providers",
    "transactions",
)

# What depends on when, and as whom, rows are written.
INCIDENTAL = (
    "actor",
    "created_at",
    "decided_at",
    "loaded_at",
    "occurred_at",
    "paid_at",
    "received_at",
    "updated_at",
)


def count_rows(dsn: str) -> dict[str, int]:
    """Count the rows of each table."""
    counts = {}
    with psycopg.connect(dsn) as connection:
        for table in TABLES:
            query = sql.SQL("select count(*) from credit.{}").format(sql.Identifier(table))
            (counts[table],) = connection.execute(query).fetchone() or (0,)
    return counts


def read_rows(dsn: str, table: str) -> list[str]:
    """Read a table's rows as text, without what is incidental."""
    query = sql.SQL("select (to_jsonb(t) - %s::text[])::text from credit.{} t order by 1").format(
        sql.Identifier(table)
    )
    with psycopg.connect(dsn, options=PINNED) as connection:
        return [row for (row,) in connection.execute(query, (list(INCIDENTAL),))]


@on_every_version
def test_every_change_of_the_workload_can_be_published(credit_pair: Pair) -> None:
    """With all tables published, no write fails, and each table sees each kind of change."""
    load(credit_pair.source_dsn, ROWS)
    with psycopg.connect(credit_pair.source_admin_dsn, autocommit=True) as connection:
        connection.execute("create publication everything for tables in schema credit")
        connection.execute(
            "select pg_create_logical_replication_slot(%s, 'test_decoding')", (credit_pair.slot,)
        )
        Workload(credit_pair.source_dsn, rate=None).run(1000)
        seen = set(
            connection.execute(
                """
                select change[1], change[2]
                from pg_logical_slot_get_changes(%s, null, null),
                    regexp_match(data, '^table credit.(\\w+): (\\w+):') as change
                where change is not null
                """,
                (credit_pair.slot,),
            )
        )
    # The audit trail is only added to and pruned, bookings are never changed.
    never = {("audit_events", "UPDATE"), ("transactions", "UPDATE")}
    assert {(t, c) for t in TABLES for c in ("INSERT", "UPDATE", "DELETE")} - never == seen


def test_load_fills_every_table_with_about_as_many_rows_as_asked(credit_pair: Pair) -> None:
    """The rows of the tables are those that load says, and together those asked for."""
    progress: dict[str, tuple[int, int]] = {}

    def note(table: str, loaded: int, planned: int) -> None:
        progress[table] = (loaded, planned)

    counts = load(credit_pair.source_dsn, 25_000, progress=note)

    assert counts == count_rows(credit_pair.source_dsn)
    assert sum(counts.values()) == 25_000
    assert min(counts.values()) > 0
    assert progress == {table: (rows, rows) for table, rows in counts.items()}


def test_the_same_seed_writes_the_same_rows(credit_pair: Pair) -> None:
    """Two databases loaded and written to with the same seed are equal, times apart."""
    for dsn in (credit_pair.source_dsn, credit_pair.target_dsn):
        load(dsn, ROWS, seed=7)
        Workload(dsn, seed=7, rate=None).run(300)
    for table in TABLES:
        assert read_rows(credit_pair.source_dsn, table) == read_rows(credit_pair.target_dsn, table)


def test_every_kind_of_transaction_writes_something(credit_pair: Pair) -> None:
    """None of the kinds looks for rows that are never there."""
    load(credit_pair.source_dsn, ROWS)
    idle = []
    for _, kind in TRANSACTIONS:
        workload = Workload(credit_pair.source_dsn, rate=None, kinds=((1, kind),))
        workload.run(30)
        if workload.changes == 0:
            idle.append(kind)
    assert idle == [abandon]


def test_a_workload_starts_on_empty_tables(credit_pair: Pair) -> None:
    """Nothing needs rows to be there: what finds none is rolled back."""
    workload = Workload(credit_pair.source_dsn, rate=None)
    workload.run(300)
    assert workload.transactions > 0
    assert workload.transactions + workload.rolled_back == 300


def test_workloads_do_not_get_into_each_others_way(credit_pair: Pair) -> None:
    """Several writers at once, with the same seed or not, violate no constraint."""
    load(credit_pair.source_dsn, 300)  # few rows, so that they meet
    workloads = [Workload(credit_pair.source_dsn, seed=seed, rate=None) for seed in (1, 1, 2)]
    for workload in workloads:
        workload.start()
    time.sleep(3)
    for workload in workloads:
        workload.stop()
        assert workload.transactions > 0


def test_a_workload_keeps_its_rate(credit_pair: Pair) -> None:
    """A workload of 50 transactions per second runs no more, whatever the server could do."""
    workload = Workload(credit_pair.source_dsn, rate=50)
    started = time.monotonic()
    workload.run(40)
    assert time.monotonic() - started > 40 / 50 - CATCH_UP_S


def test_an_error_ends_a_workload_and_is_raised_when_it_is_stopped(credit_pair: Pair) -> None:
    """A writer that fails is seen to have stopped, and says why."""
    with psycopg.connect(credit_pair.source_admin_dsn, autocommit=True) as connection:
        connection.execute("drop table credit.transactions")
    workload = Workload(credit_pair.source_dsn, rate=None)
    workload.start()
    deadline = time.monotonic() + 30
    while workload.running and time.monotonic() < deadline:
        time.sleep(0.01)
    with pytest.raises(psycopg.errors.UndefinedTable):
        workload.stop()


def test_the_supabase_extras_need_an_owner_only(credit_pair: Pair) -> None:
    """Where roles and auth schema exist, the owner of the tables runs the file, any other part."""
    stand_in, marker, extras = SUPABASE_EXTRAS.read_text().partition("-- Part 2")
    assert marker
    with psycopg.connect(credit_pair.source_admin_dsn, autocommit=True) as connection:
        connection.execute(stand_in.encode())
    with psycopg.connect(credit_pair.source_dsn, autocommit=True) as connection:
        connection.execute(f"{stand_in}\n{marker}{extras}".encode())
        protected = connection.execute(
            "select tablename from pg_tables where schemaname = 'credit' and rowsecurity order by 1"
        ).fetchall()
    assert protected == [(table,) for table in TABLES]


def test_users_see_their_own_rows_and_the_source_role_sees_all(supabase_pair: Pair) -> None:
    """The policies limit the API's roles, and neither the owner, the load nor the workload."""
    load(supabase_pair.source_dsn, ROWS)
    Workload(supabase_pair.source_dsn, rate=None).run(200)
    with psycopg.connect(supabase_pair.source_admin_dsn) as connection:
        user, expected = connection.execute(
            "select user_id, count(*) from credit.applications group by 1 order by 1 limit 1"
        ).fetchone() or (None, 0)
        connection.execute("set local role authenticated")
        connection.execute("select set_config('request.jwt.claim.sub', %s, true)", (str(user),))
        seen = connection.execute("select distinct user_id from credit.applications").fetchall()
        seen_rows = connection.execute("select count(*) from credit.applications").fetchone()
    assert seen == [(user,)]
    assert seen_rows == (expected,)
    with psycopg.connect(supabase_pair.source_dsn) as connection:
        users = connection.execute("select count(distinct user_id) from credit.applications")
        (visible_to_owner,) = users.fetchone() or (0,)
    assert visible_to_owner > 1

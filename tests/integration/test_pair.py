"""The pair of databases that tests work on: its roles, its comparison, its removal."""

from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from tests.pair import Pair, make_pair, same_rows
from tests.servers import SessionServers, Versions, on_every_version

ROLE = "select rolsuper, rolreplication, rolbypassrls from pg_roles where rolname = current_user"


@on_every_version
def test_roles_are_the_platforms(credit_pair: Pair) -> None:
    """The source's owner replicates and sees all rows, the target's is plain; no superuser."""
    with (
        psycopg.connect(credit_pair.source_dsn) as source,
        psycopg.connect(credit_pair.target_dsn) as target,
    ):
        assert source.execute(ROLE).fetchone() == (False, True, True)
        assert target.execute(ROLE).fetchone() == (False, False, False)
        assert source.execute("select 0.1::float8 + 0.2::float8").fetchone() == (0.3,)
        for connection in (source, target):
            connection.execute("create schema mine")
            connection.execute("alter table credit.providers add mine int")


def test_the_same_rows_are_equal(credit_pair: Pair) -> None:
    """Rows are equal and counted in whatever order they came; empty tables count too."""
    insert(credit_pair.source_dsn, "a", "b")
    insert(credit_pair.target_dsn, "b", "a")
    counts = same_rows(credit_pair)
    assert (counts["businesses"], counts["offers"]) == (2, 0)


@pytest.mark.parametrize(
    ("source", "target"),
    [("ab", "a"), ("a", "ab"), ("ab", "ac")],
    ids=["missing", "extra", "different"],
)
def test_a_difference_is_found(credit_pair: Pair, source: str, target: str) -> None:
    """A row that is missing, extra or different on the target fails the comparison."""
    insert(credit_pair.source_dsn, *source)
    insert(credit_pair.target_dsn, *target)
    with pytest.raises(AssertionError, match=r"credit\.businesses"):
        same_rows(credit_pair)


def test_a_row_that_came_twice_is_found(pair: Pair) -> None:
    """A table without a key that holds a row twice differs from one that holds it once."""
    for dsn, times in ((pair.source_dsn, 1), (pair.target_dsn, 2)):
        with psycopg.connect(dsn) as connection:
            connection.execute("create schema credit")
            connection.execute(
                f"create table credit.t as select 7 from generate_series(1, {times})"
            )
    with pytest.raises(AssertionError, match=r"credit\.t"):
        same_rows(pair)


def test_a_pair_leaves_nothing(servers: SessionServers, tmp_path: Path) -> None:
    """Databases and slots of a pair are gone afterwards, also a slot that somebody streams from."""
    with ExitStack() as clients:
        with make_pair(servers, Versions(), tmp_path, credit=False) as pair:
            stream = psycopg.connect(pair.source_dsn, replication="database", autocommit=True)
            clients.callback(stream.close)
            stream.execute(f"CREATE_REPLICATION_SLOT {pair.slot} LOGICAL pgoutput")
            options = f"(proto_version '1', publication_names '{pair.publication}')"
            stream.execute(f"START_REPLICATION SLOT {pair.slot} LOGICAL 0/0 {options}")
        names = (
            "select datname from pg_database union all select slot_name from pg_replication_slots"
        )
        for server in (pair.source, pair.target):
            with psycopg.connect(server.conninfo()) as connection:
                assert (pair.slot,) not in connection.execute(names).fetchall()


def test_supabase_extras_are_on_the_source(supabase_pair: Pair) -> None:
    """Row level security is on for the source's tables; its owner sees and writes all rows."""
    insert(supabase_pair.source_dsn, "a")
    with psycopg.connect(supabase_pair.source_dsn) as source:
        source.execute("set row_security = off")
        assert source.execute("select count(*) from credit.businesses").fetchone() == (1,)
        secured = "select relrowsecurity from pg_class where oid = 'credit.businesses'::regclass"
        assert source.execute(secured).fetchone() == (True,)


def insert(dsn: str, *names: str) -> None:
    """Insert a business for each name, equal wherever it is inserted."""
    with psycopg.connect(dsn) as connection:
        for name in names:
            connection.execute(
                """
                insert into credit.businesses
                    (id, registration_number, legal_name, country, created_at, updated_at)
                values (md5(%(name)s)::uuid, %(name)s, %(name)s, 'DE', '2026-01-01', '2026-01-01')
                """,
                {"name": name},
            )

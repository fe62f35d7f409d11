"""The preflight of a pair as a whole: what is fine, what it promises, and where it connects to."""

import psycopg
import pytest

from cdc.assure.preflight import check_pooled, check_source_version
from cdc.assure.preflight.facts import Intent
from cdc.demo.server import free_port
from cdc.errors import SettingsError
from cdc.postgres.session import Side
from tests.pair import Pair
from tests.preflight import (
    BREAKS,
    BUSINESS,
    WARNS,
    ask,
    broken,
    exported,
    init,
    run_sql,
    settings_of,
    the,
)
from tests.servers import Versions, on_every_version


@on_every_version
def test_a_healthy_pair_has_nothing_that_breaks(credit_pair: Pair) -> None:
    """Before the copy, for each intent, and after it, no finding is one that breaks."""
    run_sql(credit_pair.source_dsn, BUSINESS)
    for intent in Intent:
        assert broken(ask(credit_pair, intent=intent)) == []
    init(credit_pair)
    assert ask(credit_pair) == []


def test_supabase_extras_are_no_finding(supabase_pair: Pair) -> None:
    """Row security and a key to auth.users on the source trouble nobody who has BYPASSRLS."""
    assert broken(ask(supabase_pair, intent=Intent.COPY)) == []


def test_partitions_are_copied_one_by_one(pair: Pair) -> None:
    """Of a partitioned table it is the partitions that count, and that need to be published."""
    for dsn in (pair.source_dsn, pair.target_dsn):
        run_sql(dsn, "create schema credit")
        run_sql(dsn, "create table credit.t (a int primary key) partition by range (a)")
        run_sql(dsn, "create table credit.t1 partition of credit.t for values from (0) to (9)")
    assert ask(pair) == []
    publish = f"create publication {pair.publication} for tables in schema credit"
    run_sql(pair.source_admin_dsn, publish)
    assert ask(pair) == []
    run_sql(pair.target_dsn, "drop table credit.t1")
    the(ask(pair), (BREAKS, "target", "credit.t1", "is missing"))


@pytest.mark.parametrize("state", ["healthy", "copied", "broken"])
def test_nothing_is_changed(credit_pair: Pair, state: str) -> None:
    """Publications, slots, schemas, tables, triggers, privileges, rows: all is as it was."""
    if state == "copied":
        init(credit_pair)
    if state == "broken":
        run_sql(credit_pair.source_dsn, "alter table credit.offers replica identity nothing")
        run_sql(credit_pair.target_dsn, f"drop table credit.documents\n{BUSINESS}")
    dsns = (credit_pair.source_admin_dsn, credit_pair.target_admin_dsn)
    before = [describe(dsn) for dsn in dsns]
    for intent in Intent:
        ask(credit_pair, intent=intent)
    assert [describe(dsn) for dsn in dsns] == before


STATE = (
    "select p::text, xmin::text from pg_publication p",
    """select slot_name, plugin, restart_lsn, confirmed_flush_lsn, active
         from pg_replication_slots where database = current_database()""",
    """select nspname, nspacl::text, xmin::text from pg_namespace
        where nspname !~ '^pg_(toast_)?temp' order by 1""",
    "select oid, relname, relacl::text, relreplident from pg_class order by 1",
    "select oid, tgname, tgenabled from pg_trigger order by 1",
    "select n_tup_ins, n_tup_upd, n_tup_del from pg_stat_user_tables order by relid",
    """select objid from pg_locks l, pg_database d
        where locktype = 'advisory' and l.database = d.oid and datname = current_database()""",
)


def describe(dsn: str) -> list[object]:
    """Give all that a preflight could have changed in a database."""
    with psycopg.connect(dsn) as connection:
        return [connection.execute(query.encode()).fetchall() for query in STATE]


@pytest.mark.parametrize("side", ["SOURCE", "TARGET"])
def test_a_wrong_dsn_is_raised_as_it_is(credit_pair: Pair, side: str) -> None:
    """A server that is not there, or a database that is not, is the driver's error."""
    dsn = credit_pair.source_dsn if side == "SOURCE" else credit_pair.target_dsn
    for wrong in (f"port={free_port()}", "dbname=nowhere"):
        with pytest.raises(psycopg.OperationalError):
            ask(credit_pair, {f"CDC_{side}_DSN": f"{dsn} {wrong}"})


def test_a_dsn_that_cannot_be_read_is_not_quoted(credit_pair: Pair) -> None:
    """The error of a misspelt DSN does not hold the password in it."""
    with pytest.raises(SettingsError) as caught:
        ask(credit_pair, {"CDC_TARGET_DSN": "postgresql//user:secret@host/database"})
    assert "secret" not in str(caught.value)


SUPAVISOR = "postgresql://postgres.abcd:secret@aws-0-eu.pooler.supabase.com:5432/postgres"
DEDICATED = "postgresql://postgres:secret@db.abcd.supabase.co:6543/postgres?sslmode=require"
NEON = "host=ep-a-b-1-pooler.eu.aws.neon.tech user=owner password=secret dbname=main"


@pytest.mark.parametrize(
    ("side", "dsn", "direct"),
    [
        ("source", SUPAVISOR, "postgresql://postgres:PASSWORD@db.abcd.supabase.co:5432/postgres"),
        (
            "source",
            DEDICATED,
            "postgresql://postgres:PASSWORD@db.abcd.supabase.co:5432/postgres?sslmode=require",
        ),
        ("target", NEON, "postgresql://owner:PASSWORD@ep-a-b-1.eu.aws.neon.tech:5432/main"),
    ],
    ids=["supavisor", "port 6543", "neon"],
)
def test_a_pooled_endpoint_is_found_before_connecting(
    credit_pair: Pair, side: Side, dsn: str, direct: str
) -> None:
    """The mend is the DSN of the direct endpoint, without the password; nobody is connected to."""
    name = f"CDC_{side.upper()}_DSN"
    (finding,) = ask(credit_pair, {name: dsn})
    assert (finding.severity, finding.side, finding.subject) == (BREAKS, side, name)
    assert exported(finding.mend) == {name: direct}
    assert check_pooled(side, direct) == []
    assert "secret" not in str(finding)


def test_one_database_under_two_names_is_found(credit_pair: Pair) -> None:
    """Two DSNs of one database: that is all that is said, however different they look."""
    (finding,) = ask(credit_pair, {"CDC_TARGET_DSN": credit_pair.source_admin_dsn})
    assert (finding.severity, finding.side) == (BREAKS, "both")
    assert "CDC_SOURCE_DSN" in finding.problem
    assert "export CDC_TARGET_DSN" in finding.mend


def test_a_source_before_15_is_too_old() -> None:
    """PostgreSQL 14 is refused, 15 is not."""
    (finding,) = check_source_version(140_023)
    assert (finding.severity, finding.subject) == (BREAKS, "server version")
    assert check_source_version(150_000) == []


@pytest.mark.parametrize("versions", [Versions(18, 15)], indirect=True, ids=str)
def test_a_target_older_than_the_source_is_a_warning(credit_pair: Pair) -> None:
    """PostgreSQL 18 to 15 may work, and an operator should know."""
    the(ask(credit_pair), (WARNS, "target", "server version", "is 15, and the source's is 18"))


def test_a_wrong_schema_is_found(pair: Pair) -> None:
    """A schema without tables is named, and the mend names the schemas that have some."""
    run_sql(pair.source_dsn, "create schema app\ncreate table app.t (a int primary key)")
    run_sql(pair.target_dsn, "create schema app\ncreate table app.t (a int primary key)")
    finding = the(ask(pair), (BREAKS, "source", "schema credit", "has no table"))
    assert settings_of(pair, exported(finding.mend)).source.schemas == ["app"]
    assert ask(pair, exported(finding.mend)) == []

"""The preflight of a pair: what is fine, how it is asked, and the tables of both sides."""

import os
import subprocess

import psycopg
import pytest

from cdc.assure.facts import Intent
from cdc.assure.findings import Severity, Side
from cdc.assure.preflight import check_pooled, check_source_version
from cdc.demo.server import Server, free_port
from cdc.errors import SettingsError
from tests.pair import Pair
from tests.preflight import (
    ask,
    broken,
    exported,
    find_and_mend,
    init,
    matching,
    mend,
    run_sql,
    settings_of,
    the,
)
from tests.servers import Versions, on_every_version

BREAKS, WARNS = Severity.BREAKS, Severity.WARNS

BUSINESS = (
    "insert into credit.businesses (registration_number, legal_name, country)"
    " values ('1', 'one', 'DE')"
)


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


def describe(dsn: str) -> list[object]:
    """Give all that a preflight could have changed in a database."""
    with psycopg.connect(dsn) as connection:
        return [
            connection.execute(query.encode()).fetchall()
            for query in (
                "select p::text, xmin::text from pg_publication p",
                "select slot_name, plugin, restart_lsn, confirmed_flush_lsn, active"
                " from pg_replication_slots where database = current_database()",
                "select nspname, nspacl::text, xmin::text from pg_namespace"
                " where nspname !~ '^pg_(toast_)?temp' order by 1",
                "select oid, relname, relacl::text, relreplident from pg_class order by 1",
                "select oid, tgname, tgenabled from pg_trigger order by 1",
                "select oid, setconfig from pg_db_role_setting s, pg_database d"
                " where s.setdatabase = d.oid and datname = current_database()",
                "select n_tup_ins, n_tup_upd, n_tup_del from pg_stat_user_tables order by relid",
                "select objid from pg_locks l, pg_database d where locktype = 'advisory'"
                " and l.database = d.oid and datname = current_database()",
            )
        ]


@pytest.mark.parametrize("side", ["SOURCE", "TARGET"])
def test_a_wrong_dsn_is_raised_as_it_is(credit_pair: Pair, side: str) -> None:
    """A server that is not there, or a database that is not, is the driver's error."""
    dsn = credit_pair.source_dsn if side == "SOURCE" else credit_pair.target_dsn
    for wrong in (f"port={free_port()}", "dbname=nowhere"):
        with pytest.raises(psycopg.OperationalError):
            ask(credit_pair, **{f"CDC_{side}_DSN": f"{dsn} {wrong}"})


def test_a_dsn_that_cannot_be_read_is_not_quoted(credit_pair: Pair) -> None:
    """The error of a misspelt DSN does not hold the password in it."""
    with pytest.raises(SettingsError) as caught:
        ask(credit_pair, CDC_TARGET_DSN="postgresql//user:secret@host/database")
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
    (finding,) = ask(credit_pair, **{name: dsn})
    assert (finding.severity, finding.side, finding.subject) == (BREAKS, side, name)
    assert exported(finding.mend) == {name: direct}
    assert check_pooled(side, direct) == []
    assert "secret" not in str(finding)


def test_one_database_under_two_names_is_found(credit_pair: Pair) -> None:
    """Source and target that are one database: nothing else is said, whatever the DSNs look like."""
    (finding,) = ask(
        credit_pair, CDC_TARGET_DSN=f"{credit_pair.source_admin_dsn} connect_timeout=5"
    )
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
    assert ask(pair, **exported(finding.mend)) == []


CASES: dict[str, tuple[str, str, tuple[Severity, Side, str, str]]] = {
    "no key, an index": (
        "create table credit.bare (a int not null unique)",
        "create table credit.bare (a int not null unique)",
        (BREAKS, "source", "credit.bare", "no replica identity"),
    ),
    "no key, nothing": (
        "create table credit.bare (id int)",
        "create table credit.bare (id int)",
        (BREAKS, "source", "credit.bare", "no replica identity"),
    ),
    "identity nothing": (
        "alter table credit.offers replica identity nothing",
        "",
        (BREAKS, "source", "credit.offers", "no replica identity"),
    ),
    "identity index dropped": (
        "drop index credit.provider_rates_identity",
        "",
        (BREAKS, "source", "credit.provider_rates", "no replica identity"),
    ),
    "full, no key": (
        "alter table credit.provider_rates replica identity full",
        "",
        (BREAKS, "source", "credit.provider_rates", "REPLICA IDENTITY FULL and no primary key"),
    ),
    "full, generated": (
        "alter table credit.offers replica identity full",
        "",
        (BREAKS, "source", "credit.offers", "a generated column"),
    ),
    "column missing": (
        "",
        "alter table credit.offers drop column terms",
        (BREAKS, "target", "credit.offers.terms", "is missing"),
    ),
    "generated column missing": (
        "",
        "alter table credit.documents drop column body_bytes",
        (WARNS, "target", "credit.documents.body_bytes", "is missing"),
    ),
    "other type": (
        "",
        "alter table credit.providers alter column rank type text",
        (BREAKS, "target", "credit.providers.rank", "is text, and bigint on the source"),
    ),
    "narrower text": (
        "",
        "alter table credit.businesses alter column legal_name type varchar(20)",
        (BREAKS, "target", "credit.businesses.legal_name", "character varying(20)"),
    ),
    "wider text": (
        "alter table credit.businesses alter column legal_name type varchar(20)",
        "alter table credit.businesses alter column legal_name type varchar(40)",
        (WARNS, "target", "credit.businesses.legal_name", "character varying(40)"),
    ),
    "text for varchar": (
        "alter table credit.businesses alter column legal_name type varchar(20)",
        "",
        (WARNS, "target", "credit.businesses.legal_name", "is text"),
    ),
    "narrower number": (
        "",
        "alter table credit.transactions alter column amount type numeric(10,2)",
        (BREAKS, "target", "credit.transactions.amount", "is numeric(10,2)"),
    ),
    "wider number": (
        "",
        "alter table credit.transactions alter column amount type numeric",
        (WARNS, "target", "credit.transactions.amount", "is numeric, and"),
    ),
    "enum label": (
        "alter type credit.document_kind add value 'audit' after 'contract'",
        "",
        (BREAKS, "target", "type credit.document_kind", "lacks audit"),
    ),
    "primary key": (
        "",
        "alter table credit.payment_schedules drop constraint payment_schedules_pkey",
        (BREAKS, "target", "credit.payment_schedules", "(account_id, installment_no)"),
    ),
    "unique index": (
        "",
        "drop index credit.provider_rates_identity",
        (BREAKS, "target", "credit.provider_rates", "no unique index"),
    ),
    "not null, not sent": (
        "",
        "alter table credit.offers add column extra int not null",
        (BREAKS, "target", "credit.offers.extra", "the source does not send it"),
    ),
    "not null, nullable": (
        "",
        "alter table credit.documents alter column note set not null",
        (BREAKS, "target", "credit.documents.note", "may be null on the source"),
    ),
    "generated on the source": (
        "",
        "alter table credit.offers alter column total_cost drop expression",
        (BREAKS, "target", "credit.offers.total_cost", "generated on the source alone"),
    ),
    "generated on the target": (
        "alter table credit.offers alter column total_cost drop expression",
        "",
        (BREAKS, "target", "credit.offers.total_cost", "generated on the target alone"),
    ),
    "virtual on the target": (
        "alter table credit.offers drop column interest_score\n"
        "alter table credit.offers add column interest_score int",
        "alter table credit.offers drop column interest_score\n"
        "alter table credit.offers add column interest_score int"
        " generated always as (1) virtual",
        (BREAKS, "target", "credit.offers.interest_score", "generated on the target alone"),
    ),
    "identity always": (
        "alter table credit.transactions alter column id set generated by default",
        "",
        (BREAKS, "target", "credit.transactions.id", "GENERATED ALWAYS AS IDENTITY"),
    ),
    "empty table referenced": (
        "",
        "create table public.names (code text primary key)\n"
        "alter table credit.providers add constraint known foreign key (code)"
        " references public.names",
        (BREAKS, "target", "credit.providers", "public.names, which is not copied and is empty"),
    ),
    "table referenced": (
        "",
        "create table public.names (code text primary key)\n"
        "insert into public.names values ('a')\n"
        "alter table credit.providers add constraint known foreign key (code)"
        " references public.names",
        (WARNS, "target", "credit.providers", "each row it refers to has to be there"),
    ),
    "triggers": (
        "",
        "",
        (WARNS, "target", "credit.applications", "`cdc init` disables them"),
    ),
    "rows": (
        "",
        BUSINESS,
        (WARNS, "target", "credit.businesses", "has rows already"),
    ),
}


@pytest.mark.parametrize(("source", "target", "expected"), CASES.values(), ids=CASES)
def test_a_table_that_does_not_fit_is_found_and_its_mend_mends_it(
    credit_pair: Pair, source: str, target: str, expected: tuple[Severity, Side, str, str]
) -> None:
    """Each difference of a table is found once, and is gone when the mend was run."""
    run_sql(credit_pair.source_dsn, source)
    run_sql(credit_pair.target_dsn, target)
    find_and_mend(credit_pair, expected)


def test_a_key_that_was_added_on_both_sides_leaves_nothing(credit_pair: Pair) -> None:
    """The mend of a table without a key, run on both sides as it says, makes the table fit."""
    for dsn in (credit_pair.source_dsn, credit_pair.target_dsn):
        run_sql(dsn, "create table credit.bare (a int)")
    finding = the(ask(credit_pair), (BREAKS, "source", "credit.bare", "no replica identity"))
    mend(credit_pair, finding)
    run_sql(credit_pair.target_dsn, finding.mend)
    assert broken(ask(credit_pair)) == []


def test_labels_are_added_in_the_order_of_the_source(credit_pair: Pair) -> None:
    """Several labels, the first and neighbours among them, sort on the target as on the source."""
    for label, place in (
        ("zero", "before 'open'"),
        ("one", "after 'open'"),
        ("two", "after 'one'"),
    ):
        run_sql(
            credit_pair.source_dsn, f"alter type credit.offer_status add value '{label}' {place}"
        )
    find_and_mend(credit_pair, (BREAKS, "target", "type credit.offer_status", "zero, one, two"))
    labels = []
    for dsn in (credit_pair.source_dsn, credit_pair.target_dsn):
        with psycopg.connect(dsn) as connection:
            row = connection.execute(
                "select enum_range(null::credit.offer_status)::text"
            ).fetchone()
            labels.append(row)
    assert labels[0] == labels[1]


def test_a_key_may_name_its_columns_in_another_order(credit_pair: Pair) -> None:
    """A unique index on the target serves whatever the order of its columns."""
    run_sql(
        credit_pair.target_dsn,
        "alter table credit.payment_schedules drop constraint payment_schedules_pkey\n"
        "alter table credit.payment_schedules add primary key (installment_no, account_id)",
    )
    assert broken(ask(credit_pair)) == []


@pytest.mark.parametrize(
    ("drop", "subject"),
    [("schema credit cascade", "schema credit"), ("table credit.documents", "credit.documents")],
)
def test_a_missing_table_is_mended_by_the_command(
    credit_pair: Pair, drop: str, subject: str
) -> None:
    """The mend is a shell command that makes the table, or all of them, on the target."""
    if not isinstance(credit_pair.source, Server):
        pytest.skip("pg_dump is not on this machine")
    run_sql(credit_pair.target_dsn, f"drop {drop}")
    findings = ask(credit_pair)
    (finding,) = matching(findings, subject, "")
    assert (finding.severity, finding.side) == (BREAKS, "target")
    environment = {
        "PATH": f"{credit_pair.source.installation.bin_dir}:{os.environ['PATH']}",
        "CDC_SOURCE_DSN": credit_pair.source_dsn,
        "CDC_TARGET_DSN": credit_pair.target_dsn,
    }
    subprocess.run(["sh", "-c", finding.mend], env=environment, check=True, capture_output=True)
    assert broken(ask(credit_pair)) == []


def test_rows_on_the_target_break_a_copy_and_serve_a_takeover(credit_pair: Pair) -> None:
    """Rows of somebody else stop `init`, not `init --no-snapshot`; the mend empties the table."""
    run_sql(credit_pair.target_dsn, BUSINESS)
    assert broken(ask(credit_pair, intent=Intent.TAKE_OVER)) == []
    expected: tuple[Severity, Side, str, str] = (
        BREAKS,
        "target",
        "credit.businesses",
        "has rows already",
    )
    assert broken(find_and_mend(credit_pair, expected, intent=Intent.COPY)) == []


def test_rows_of_a_copy_that_was_cut_off_are_ours(credit_pair: Pair) -> None:
    """What an unfinished copy has written is no finding: `init` empties it by itself."""
    run_sql(credit_pair.source_dsn, BUSINESS)
    init(credit_pair)
    run_sql(credit_pair.target_dsn, "update cdc.checkpoint set lsn = null")
    assert broken(ask(credit_pair, intent=Intent.COPY)) == []


def test_a_trigger_that_came_after_the_copy_breaks(credit_pair: Pair) -> None:
    """Once the stream runs, a trigger on the target rewrites what it brings."""
    init(credit_pair)
    run_sql(credit_pair.target_dsn, "alter table credit.offers enable trigger user")
    find_and_mend(credit_pair, (BREAKS, "target", "credit.offers", "offers_set_updated_at"))

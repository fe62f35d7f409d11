"""The preflight of the tables: definitions, keys, rows, triggers and foreign keys."""

import os
import subprocess

import psycopg
import pytest

from cdc.assure.preflight.facts import Intent
from cdc.demo.server import Server
from tests.pair import Pair
from tests.preflight import (
    BREAKS,
    BUSINESS,
    WARNS,
    Expected,
    ask,
    broken,
    find_and_mend,
    init,
    matching,
    mend,
    run_sql,
    the,
)

CASES: dict[str, tuple[str, str, Expected]] = {
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
        (WARNS, "source", "credit.provider_rates", "has no primary key"),
    ),
    "full, a key of the target": (
        "create table credit.bare (p text)\nalter table credit.bare replica identity full",
        "create table credit.bare (p text primary key)",
        (WARNS, "source", "credit.bare", "no primary key that is checked at once"),
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
        "alter table credit.offers add column score int",
        "alter table credit.offers add column score int generated always as (1) virtual",
        (BREAKS, "target", "credit.offers.score", "generated on the target alone"),
    ),
    "identity always": (
        "",
        "",
        (WARNS, "target", "credit.transactions.id", "`cdc init` alters that"),
    ),
    "empty table referenced": (
        "",
        (
            "create table public.names (code text primary key)\n"
            "alter table credit.providers add constraint known foreign key (code)"
            " references public.names"
        ),
        (BREAKS, "target", "credit.providers", "public.names, which is not copied and is empty"),
    ),
    "table referenced": (
        "",
        (
            "create table public.names (code text primary key)\n"
            "insert into public.names values ('a')\n"
            "alter table credit.providers add constraint known foreign key (code)"
            " references public.names"
        ),
        (WARNS, "target", "credit.providers", "each row it refers to has to be there"),
    ),
    "triggers": (
        "",
        "",
        (WARNS, "target", "credit.applications", "`cdc init` alters that"),
    ),
    "rows": (
        "",
        BUSINESS,
        (WARNS, "target", "credit.businesses", "has rows already"),
    ),
}


@pytest.mark.parametrize(("source", "target", "expected"), CASES.values(), ids=CASES)
def test_a_table_that_does_not_fit_is_found_and_its_mend_mends_it(
    credit_pair: Pair, source: str, target: str, expected: Expected
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
    expected: Expected = (
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


def test_a_trigger_that_came_after_the_copy_is_found(credit_pair: Pair) -> None:
    """The daemon disables it before it writes; what was written since it came may differ."""
    init(credit_pair)
    run_sql(credit_pair.target_dsn, "alter table credit.offers enable trigger user")
    find_and_mend(credit_pair, (WARNS, "target", "credit.offers", "offers_set_updated_at"))


def test_an_identity_that_came_after_the_copy_is_found(credit_pair: Pair) -> None:
    """The daemon makes a column that assigns itself take what the stream brings."""
    init(credit_pair)
    alter = "alter table credit.transactions alter column id set generated always"
    run_sql(credit_pair.target_dsn, alter)
    find_and_mend(credit_pair, (WARNS, "target", "credit.transactions.id", "GENERATED ALWAYS"))

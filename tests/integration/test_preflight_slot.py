"""The preflight of publication, slot and checkpoint."""

from contextlib import closing

import psycopg
import pytest

from cdc.assure.preflight.facts import Intent
from cdc.assure.preflight.findings import new_copy
from tests.pair import Pair, same_rows
from tests.preflight import (
    BREAKS,
    WARNS,
    Expected,
    ask,
    broken,
    exported,
    find_and_mend,
    init,
    matching,
    mend,
    run_sql,
    the,
)

# Publication


@pytest.mark.parametrize(
    ("definition", "problem"),
    [
        ("for table credit.offers, credit.documents", "lacks credit.applications"),
        ("for tables in schema credit with (publish = 'insert')", "does not publish all"),
        ("for tables in schema credit, public", "holds public.other, outside"),
        ("for tables in schema credit, table public.other", "holds public.other, outside"),
    ],
)
def test_a_publication_that_does_not_fit_is_found(
    credit_pair: Pair, definition: str, problem: str
) -> None:
    """A publication of our name that holds less, or more, is mended by altering it."""
    run_sql(
        credit_pair.source_admin_dsn,
        "create table public.other (a int primary key)\n"
        f"create publication {credit_pair.publication} {definition}",
    )
    expected: Expected = (BREAKS, "source", f"publication {credit_pair.publication}", problem)
    assert broken(find_and_mend(credit_pair, expected, admin=True)) == []


def test_a_table_that_came_after_the_copy_is_left_to_the_daemon(credit_pair: Pair) -> None:
    """A list of tables is kept complete by `cdc run`, which copies the table's rows too."""
    init(credit_pair)
    for dsn in (credit_pair.source_dsn, credit_pair.target_dsn):
        run_sql(dsn, "create table credit.late (a int primary key)")
    (finding,) = ask(credit_pair)
    subject = f"publication {credit_pair.publication}"
    assert the([finding], (WARNS, "source", subject, "lacks credit.late")).mend == "cdc run"


def test_a_publication_of_everything_is_left_to_its_owner(credit_pair: Pair) -> None:
    """A publication for all tables cannot be cut down: the mend is another name."""
    run_sql(
        credit_pair.source_admin_dsn,
        "create table public.other (a int primary key)\n"
        f"create publication {credit_pair.publication} for all tables",
    )
    expected: Expected = (BREAKS, "source", f"publication {credit_pair.publication}", "outside")
    finding = the(ask(credit_pair), expected)
    assert broken(ask(credit_pair, exported(finding.mend))) == []


@pytest.mark.parametrize(
    ("part", "problem"),
    [
        ("credit.offers (id, application_id, provider_code, amount)", "columns status"),
        ("credit.offers where (id is not null)", "rows outside of its filter"),
    ],
)
def test_a_table_published_in_part_is_a_warning(credit_pair: Pair, part: str, problem: str) -> None:
    """Columns or rows that are left out on purpose are a warning; the mend publishes them."""
    run_sql(
        credit_pair.source_admin_dsn,
        f"create publication {credit_pair.publication} for table {part}",
    )
    find_and_mend(credit_pair, (WARNS, "source", "credit.offers", problem), admin=True)


def test_a_publication_dropped_after_the_copy_asks_for_a_new_one(credit_pair: Pair) -> None:
    """Making it again would hide what was written in between; the mend is a new copy."""
    init(credit_pair)
    run_sql(credit_pair.source_admin_dsn, f"drop publication {credit_pair.publication}")
    expected: Expected = (BREAKS, "source", f"publication {credit_pair.publication}", "is gone")
    finding = the(ask(credit_pair), expected)
    assert finding.mend == new_copy(credit_pair.slot)
    run_sql(credit_pair.target_dsn, finding.mend)
    init(credit_pair)
    assert ask(credit_pair) == []


def test_a_publication_has_to_be_older_than_the_slot(credit_pair: Pair) -> None:
    """A slot that is to be taken over without a publication cannot be decoded."""
    create = f"select pg_create_logical_replication_slot('{credit_pair.slot}', 'pgoutput')"
    run_sql(credit_pair.source_dsn, create)
    expected: Expected = (
        BREAKS,
        "source",
        f"publication {credit_pair.publication}",
        "older than its slot",
    )
    assert broken(find_and_mend(credit_pair, expected, intent=Intent.TAKE_OVER)) == []


# Slot and checkpoint


def test_a_slot_without_checkpoint_is_not_ours(credit_pair: Pair) -> None:
    """A slot that no copy began with is found; a takeover may use it."""
    run_sql(
        credit_pair.source_admin_dsn,
        f"create publication {credit_pair.publication} for tables in schema credit\n"
        f"select pg_create_logical_replication_slot('{credit_pair.slot}', 'pgoutput')",
    )
    assert broken(ask(credit_pair, intent=Intent.TAKE_OVER)) == []
    expected: Expected = (BREAKS, "source", f"slot {credit_pair.slot}", "has no checkpoint for it")
    assert broken(find_and_mend(credit_pair, expected)) == []


def test_a_slot_that_somebody_reads_is_named_with_the_reader(credit_pair: Pair) -> None:
    """An active slot without a checkpoint belongs to another daemon: the mend is another name."""
    name = credit_pair.slot
    with closing(
        psycopg.connect(
            credit_pair.source_dsn,
            replication="database",
            autocommit=True,
            application_name="other",
        )
    ) as stream:
        stream.execute(f"CREATE_REPLICATION_SLOT {name} LOGICAL pgoutput")
        options = "(proto_version '1', publication_names 'p')"
        stream.execute(f"START_REPLICATION SLOT {name} LOGICAL 0/0 {options}")
        reader = "other (user app_source"
        finding = the(ask(credit_pair), (BREAKS, "source", f"slot {name}", reader))
        assert broken(ask(credit_pair, exported(finding.mend))) == []


@pytest.mark.parametrize(
    ("create", "problem"),
    [
        ("pg_create_logical_replication_slot('{}', 'test_decoding')", "with test_decoding"),
        ("pg_create_physical_replication_slot('{}')", "is a physical slot"),
        ("pg_create_logical_replication_slot('{}', 'pgoutput', true)", "is a temporary slot"),
    ],
)
def test_a_slot_of_another_kind_is_somebody_elses(
    credit_pair: Pair, create: str, problem: str
) -> None:
    """Another plugin, a physical or temporary slot: the mend is another name, no drop."""
    name = credit_pair.slot
    with psycopg.connect(credit_pair.source_admin_dsn, autocommit=True) as other:
        other.execute(f"select {create.format(name)}".encode())
        try:
            found = ask(credit_pair)
            finding = the(found, (BREAKS, "source", f"slot {name}", problem))
            assert broken(found) == [finding]
            assert broken(ask(credit_pair, exported(finding.mend))) == []
        finally:
            other.execute("select pg_drop_replication_slot(%s)", (name,))


def test_a_slot_of_another_database_is_somebody_elses(credit_pair: Pair) -> None:
    """A slot of our name in another database of the server is found: names are the server's."""
    name = credit_pair.slot
    with psycopg.connect(credit_pair.source.conninfo(), autocommit=True) as other:
        other.execute("select pg_create_logical_replication_slot(%s, 'pgoutput')", (name,))
        try:
            expected: Expected = (BREAKS, "source", f"slot {name}", "belongs to database postgres")
            finding = the(ask(credit_pair), expected)
            assert broken(ask(credit_pair, exported(finding.mend))) == []
        finally:
            other.execute("select pg_drop_replication_slot(%s)", (name,))


def test_a_slot_that_is_gone_asks_for_a_new_copy(credit_pair: Pair) -> None:
    """After its mend `init` copies again, and both sides are equal."""
    init(credit_pair)
    insert = (
        "insert into credit.businesses (registration_number, legal_name, country)"
        " values ('2', 'two', 'DE')"
    )
    run_sql(
        credit_pair.source_dsn,
        f"select pg_drop_replication_slot('{credit_pair.slot}')\n{insert}",
    )
    finding = the(ask(credit_pair), (BREAKS, "source", f"slot {credit_pair.slot}", "is gone"))
    run_sql(credit_pair.target_dsn, finding.mend)
    assert broken(ask(credit_pair, intent=Intent.COPY)) == []
    init(credit_pair)
    assert ask(credit_pair) == []
    assert same_rows(credit_pair)["businesses"] == 1


def test_a_checkpoint_of_another_server_is_found(credit_pair: Pair) -> None:
    """A source that was replaced is not the one that the checkpoint belongs to."""
    init(credit_pair)
    for column in ("system_identifier", "database"):
        run_sql(credit_pair.target_dsn, f"update cdc.checkpoint set {column} = 'other'")
        problem = "another server" if column == "system_identifier" else "database other, not to"
        subject = f"checkpoint of slot {credit_pair.slot}"
        finding = the(ask(credit_pair), (BREAKS, "target", subject, problem))
        assert broken(ask(credit_pair)) == [finding]
        mend(credit_pair, finding)
        assert matching(ask(credit_pair), subject, "") == []
        run_sql(credit_pair.source_dsn, f"select pg_drop_replication_slot('{credit_pair.slot}')")
        init(credit_pair)

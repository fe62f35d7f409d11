"""The roles of sql/source and sql/target: what they may do is enough, and no more than that."""

import subprocess
from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest

from cdc.demo.installation import find_embedded
from cdc.demo.workload import load
from tests.databases import fetch, run_sql
from tests.pair import Pair, same_rows
from tests.process import drain, ok, run_cdc, scrubbed_environment
from tests.servers import CHECKOUT, SOURCE_ROLE, TARGET_ROLE

ROLE = "cdc"

LATER = "create table credit.later (id int primary key, note text)"

# The bookkeeping as an older version of cdc has left it.
OLDER = "alter table cdc.checkpoint drop column claimed_by"

ROW_SECURITY = "alter table credit.offers enable row level security; alter role cdc nobypassrls"
TEMPORARY = "revoke temporary on database {} from cdc; revoke temporary on database {} from public"


def run_file(dsn: str, name: str) -> None:
    """Run a file of sql/ as an operator does."""
    psql = str(find_embedded().bin_dir / "psql")
    file = f"--file={CHECKOUT / 'sql' / name}"
    result = subprocess.run(
        [psql, "--no-psqlrc", "--set=ON_ERROR_STOP=1", file, dsn],
        env=scrubbed_environment(),
        capture_output=True,
        check=False,
        text=True,
    )
    assert result.returncode == 0, result.stderr


@pytest.fixture
def roles(credit_pair: Pair) -> Iterator[Pair]:
    """A pair that the daemon reaches as the roles of sql/, made by the platforms' roles.

    The publication is a superuser's here: on Supabase a helper lets `postgres` make it.
    """
    admins = (credit_pair.source_admin_dsn, credit_pair.target_admin_dsn)
    owners = (SOURCE_ROLE, TARGET_ROLE)
    try:
        for dsn, owner in zip(admins, owners, strict=True):
            run_sql(dsn, f"alter role {owner} createrole")
        run_file(credit_pair.source_admin_dsn, "source/001_add_publication.sql")
        run_file(credit_pair.source_dsn, "source/002_add_role.sql")
        run_file(credit_pair.target_dsn, "target/002_add_role.sql")
        run_file(credit_pair.target_dsn, "target/002_add_role.sql")  # it may be run again
        yield replace(
            credit_pair,
            source_dsn=credit_pair.source.conninfo(credit_pair.slot, ROLE),
            target_dsn=credit_pair.target.conninfo(credit_pair.slot, ROLE),
            publication="cdc_credit",
        )
    finally:
        for dsn, owner in zip(admins, owners, strict=True):
            run_sql(dsn, f"alter role {owner} nocreaterole")
            run_sql(dsn, f"drop owned by {ROLE} cascade")
            run_sql(dsn, f"drop role {ROLE}")


def test_they_may_do_what_has_to_be_done(credit_pair: Pair, roles: Pair) -> None:
    """Check, init, run, a new table, resync; CREATE on the database only until init is through."""
    load(credit_pair.source_dsn, 200)
    assert ok(roles, "check").stdout.count("breaks") == 0
    ok(roles, "init")
    run_sql(credit_pair.target_dsn, f"revoke create on database {roles.slot} from {ROLE}")
    drain(roles)
    assert same_rows(roles)["offers"] > 0
    run_sql(credit_pair.source_dsn, "truncate credit.transactions restart identity cascade")
    run_sql(roles.target_dsn, LATER)
    run_sql(credit_pair.source_dsn, f"{LATER}; insert into credit.later values (1, 'as written')")
    drain(roles)
    run_sql(roles.target_admin_dsn, "update credit.later set note = 'by somebody else'")
    ok(roles, "resync")
    drain(roles)
    assert same_rows(roles)["later"] == 1
    ok(roles, "check")
    run_sql(roles.target_dsn, OLDER)
    ok(roles, "init")
    assert fetch(roles.target_dsn, "select count(claimed_by) >= 0 from cdc.checkpoint") == [True]


def test_they_may_do_nothing_else(roles: Pair) -> None:
    """The source's writes nothing, the target's neither makes roles nor databases nor schemas."""
    for attribute in ("rolsuper", "rolcreaterole", "rolcreatedb"):
        for dsn in (roles.source_dsn, roles.target_dsn):
            (has,) = fetch(dsn, f"select {attribute} from pg_roles where rolname = current_user")
            assert has is False
    memberships = "select roleid::regrole::text from pg_auth_members where member = 'cdc'::regrole"
    assert fetch(roles.source_dsn, memberships) == fetch(roles.target_dsn, memberships) == []
    assert fetch(roles.target_dsn, "select rolreplication from pg_roles where rolname = 'cdc'") == [
        False
    ]
    for dsn, statement in (
        (roles.source_dsn, "delete from credit.offers"),
        (roles.source_dsn, "create table credit.more (id int)"),
        (roles.source_dsn, "create schema more"),
        (roles.target_dsn, "create role more"),
        (roles.target_dsn, "create table public.more (id int)"),
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            run_sql(dsn, statement)


def test_replication_reads_more_than_select(roles: Pair) -> None:
    """Whoever has REPLICATION sees changes of tables that it may not read: docs/threat-model.md."""
    run_sql(roles.source_admin_dsn, "create schema secret; create table secret.t (word text)")
    slot = (f"{roles.slot}_2",)
    fetch(roles.source_dsn, "select pg_create_logical_replication_slot(%s, 'test_decoding')", *slot)
    run_sql(roles.source_admin_dsn, "insert into secret.t values ('swordfish')")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        fetch(roles.source_dsn, "select * from secret.t")
    query = "select data from pg_logical_slot_get_changes(%s, null, null)"
    assert "swordfish" in str(fetch(roles.source_dsn, query, *slot))


@pytest.mark.parametrize(
    ("side", "taken", "said"),
    [
        ("source", "alter role cdc noreplication", "lacks REPLICATION"),
        ("source", "revoke select on credit.offers from cdc", "lacks select"),
        ("source", "revoke usage on schema credit from cdc", "lacks usage of its schema"),
        ("source", ROW_SECURITY, "lacks BYPASSRLS"),
        ("target", "revoke create on database {} from cdc", "may not create the schema cdc"),
        ("target", TEMPORARY, "may not create temporary tables"),
        ("target", "alter table credit.offers owner to app_target", "role cdc lacks"),
    ],
    ids=["replication", "select", "usage", "bypassrls", "create", "temporary", "owner"],
)
def test_they_may_do_no_less(roles: Pair, side: str, taken: str, said: str) -> None:
    """Without any one of its privileges, `cdc check` says what would break."""
    dsn = roles.source_admin_dsn if side == "source" else roles.target_admin_dsn
    run_sql(dsn, taken.replace("{}", roles.slot))
    result = run_cdc(roles, "check")
    assert result.returncode == 1, result.stderr
    assert said in result.stdout

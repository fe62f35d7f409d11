"""Changes that the target refuses: the daemon ends, names them without a value, and waits."""

import re
from dataclasses import dataclass

import pytest

from tests.databases import fetch, migrate, run_sql, schema_publication
from tests.pair import Pair, same_rows
from tests.process import drain, run_cdc, streaming

SECRET = "31337"
IDS = "select id from credit.account order by 1"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A change that the source takes and the target does not."""

    before: str
    """On the target, when the stream runs already."""
    change: str
    """On the source."""
    named: tuple[str, ...]
    """What the daemon has to say of it."""
    mend: str
    """On the target."""
    source_before: str = ""
    """On the source, committed before the change."""


ACCOUNTS = """
create schema credit;
create type credit.mood as enum ('calm');
create table credit.bank (id int primary key);
create table credit.extra (id int primary key, n int);
create table credit.account (
    id int, branch int, balance numeric, name varchar(20), mood credit.mood, bank int,
    constraint account_pkey primary key (branch, id)
);
"""

INSERT = "insert into credit.account (branch, id, balance) values (1, {}, {});"
ACCOUNT = ("credit.account", "key id, branch")

REFUSALS = {
    "check constraint": Refusal(
        "alter table credit.account add constraint small check (balance < 1000)",
        INSERT.format(3, SECRET),
        (*ACCOUNT, "small"),
        "alter table credit.account drop constraint small",
    ),
    "check constraint in a set of rows": Refusal(
        "alter table credit.account add constraint small check (balance < 1000)",
        "insert into credit.account (branch, id, balance)"
        f" select 2, n, case n when 77 then {SECRET} else 1 end from generate_series(1, 100) n",
        (*ACCOUNT, "small"),
        "alter table credit.account drop constraint small",
    ),
    "not null": Refusal(
        "alter table credit.account alter column balance set not null",
        INSERT.format(3, "null"),
        (*ACCOUNT, "balance"),
        "alter table credit.account alter column balance drop not null",
    ),
    "unique value": Refusal(
        "create unique index one_balance on credit.account (balance)",
        INSERT.format(3, SECRET) + INSERT.format(4, SECRET),
        (*ACCOUNT, "one_balance"),
        "drop index credit.one_balance",
    ),
    "foreign key": Refusal(
        "alter table credit.account add constraint of_bank"
        " foreign key (bank) references credit.bank",
        f"update credit.account set bank = {SECRET} where id = 1",
        (*ACCOUNT, "of_bank"),
        "alter table credit.account drop constraint of_bank",
    ),
    "foreign key that waits for the commit": Refusal(
        "alter table credit.account add constraint of_bank foreign key (bank)"
        " references credit.bank deferrable initially deferred",
        f"update credit.account set bank = {SECRET} where id = 1",
        ("credit.account", "of_bank"),
        "alter table credit.account drop constraint of_bank",
    ),
    "value too long": Refusal(
        "alter table credit.account alter column name type varchar(4)",
        f"update credit.account set name = '{SECRET}' where id = 1",
        ACCOUNT,
        "alter table credit.account alter column name type varchar(20)",
    ),
    "enum label": Refusal(
        "",
        f"update credit.account set mood = '{SECRET}' where id = 1",
        ACCOUNT,
        f"alter type credit.mood add value '{SECRET}'",
        source_before=f"alter type credit.mood add value '{SECRET}'",
    ),
    "missing column": Refusal(
        "",
        f"update credit.account set note = '{SECRET}' where id = 1",
        ("credit.account", "note"),
        "alter table credit.account add column note text",
        source_before="alter table credit.account add column note text",
    ),
    "missing table": Refusal(
        "drop table credit.extra",
        f"insert into credit.extra values (1, {SECRET})",
        ("credit.extra",),
        "create table credit.extra (id int primary key, n int)",
    ),
    "column of another type": Refusal(
        "alter table credit.account alter column name type int using null",
        f"update credit.account set name = 'x{SECRET}' where id = 1",
        ACCOUNT,
        "alter table credit.account alter column name type varchar(20)",
    ),
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS.keys())
def test_a_change_that_the_target_refuses(pair: Pair, refusal: Refusal) -> None:
    """The daemon ends with 78 and names the change; its transaction waits for the mend."""
    migrate(pair, ACCOUNTS)
    run_sql(pair.source_admin_dsn, schema_publication(pair))
    with streaming(pair) as daemon:
        if refusal.before:
            run_sql(pair.target_dsn, refusal.before)
        run_sql(pair.source_dsn, INSERT.format(1, 10))
        if refusal.source_before:
            run_sql(pair.source_dsn, refusal.source_before)
        run_sql(pair.source_dsn, INSERT.format(2, 20) + refusal.change)
        run_sql(pair.source_dsn, INSERT.format(9, 90))
        assert daemon.process.wait(20) == 78, daemon.log()
        said = daemon.log()
    for name in refusal.named:
        assert name in said
    assert re.search(r"\b[0-9A-F]+/[0-9A-F]+", said.splitlines()[-1])
    assert SECRET not in said
    # Of the refused transaction and what follows, nothing.
    assert fetch(pair.target_dsn, IDS) in ([], [1])

    run_sql(pair.target_dsn, refusal.mend)
    drain(pair, timeout_s=30)
    assert same_rows(pair)["account"] >= 3


def test_the_initial_copy_names_what_the_target_refuses(pair: Pair) -> None:
    """A row that the target refuses ends `init` with 78, relation and constraint; then it goes."""
    migrate(pair, ACCOUNTS)
    run_sql(pair.source_dsn, INSERT.format(1, SECRET))
    run_sql(pair.target_dsn, "alter table credit.account add constraint small check (balance < 9)")
    refused = run_cdc(pair, "init")
    assert refused.returncode == 78, refused.stderr
    assert "account" in refused.stderr
    assert "small" in refused.stderr
    assert SECRET not in refused.stderr
    run_sql(pair.target_dsn, "alter table credit.account drop constraint small")
    drain(pair, timeout_s=30)
    assert same_rows(pair) == {"account": 1, "bank": 0, "extra": 0}

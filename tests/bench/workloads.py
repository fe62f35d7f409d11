"""What the contestants drain: for each workload its rows before, and the changes of its backlog.

All of it is SQL that the server runs by itself, with a COMMIT where a transaction ends, so that a
backlog of half a million changes takes seconds. Keys are made of a row's number: a change finds its
row without a query, and the same scale gives the same changes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.bench.chain import CHAIN_TABLES, chain

PER_TRANSACTION = 10
"""Changes in a transaction, where a workload is not about that."""

ACCOUNTS = 1_000
"""Accounts that bookings go to."""

# Rows of credit.transactions, numbered n; {first} and {last} are expressions.
BOOKINGS = f"""
insert into credit.transactions
    (account_id, external_id, kind, amount, exchange_rate, currency, booked_at, value_on,
     description, metadata)
select md5('account:' || 1 + mod(n, {ACCOUNTS}))::uuid, 'bench-' || n,
    (array['drawdown', 'repayment', 'interest', 'fee']::credit.transaction_kind[])[1 + mod(n, 4)],
    n * 0.0137, case when mod(n, 9) = 0 then 1.1 / n end, 'EUR',
    timestamptz '2026-02-01 00:00Z' + n * interval '31.000007 s', date '2026-02-01' + n / 3000,
    case when mod(n, 3) > 0 then 'Booking ' || n end,
    case when mod(n, 8) = 0 then jsonb_build_object('batch', n / 100) end
from generate_series({{first}}, {{last}}) as n
"""

_JSON_BYTES = 100_000
_WIDE_COLUMNS = 100

Statements = Sequence[str]


@dataclass(frozen=True, slots=True)
class Backlog:
    """A workload at one scale."""

    changes: int
    statements: Statements
    rows: Statements = ()
    """What fills the tables before, on the source."""
    tables: Statements = ()
    """Tables beside the credit schema's, for both sides."""


def accounts(last: int = ACCOUNTS) -> Statements:
    """Give what makes accounts, with all that they refer to."""
    return [chain(table, "1", str(last)) for table in CHAIN_TABLES[:-1]]


def transactions(count: int, body: str) -> str:
    """Give a block that runs `body` for t = 1 to `count`, and commits each time."""
    return f"""
        do $$ begin
            for t in 1..{count} loop
                {body};
                commit;
            end loop;
        end $$
    """


def each(body: str) -> str:
    """Give a loop over the numbers k of the changes in transaction t."""
    per = PER_TRANSACTION
    return f"for k in (t - 1) * {per} + 1..t * {per} loop {body}; end loop"


def bookings(first: str, last: str) -> str:
    """Give the insert of the bookings with these numbers."""
    return BOOKINGS.format(first=first, last=last)


def insert(changes: int) -> Backlog:
    """Insert in transactions of ten."""
    per = PER_TRANSACTION
    body = bookings(f"(t - 1) * {per} + 1", f"t * {per}")
    return Backlog(changes, [transactions(changes // per, body)], accounts())


def tiny(changes: int) -> Backlog:
    """Insert in transactions of one row."""
    return Backlog(changes, [transactions(changes, bookings("t", "t"))], accounts())


def big(changes: int) -> Backlog:
    """Insert in one transaction."""
    return Backlog(changes, [bookings("1", str(changes))], accounts())


def update(changes: int) -> Backlog:
    """Update rows all over a table, each by a statement of its own."""
    keys = max(10, changes * 10 // 3)
    # A prime that no number of keys is a multiple of: far apart, and no key twice.
    body = each(
        "update credit.transactions set amount = k * 0.01, description = 'changed ' || k"
        f" where id = 1 + mod(k * 15485863::bigint, {keys})"
    )
    rows = [*accounts(), bookings("1", str(keys))]
    return Backlog(changes, [transactions(changes // PER_TRANSACTION, body)], rows)


def hot(changes: int) -> Backlog:
    """Update few rows again and again, each by a statement of its own."""
    body = each(
        "update credit.credit_accounts set balance = balance + k * 0.01"
        " where id = md5('account:' || 1 + mod(k * 37, 100))::uuid"
    )
    return Backlog(changes, [transactions(changes // PER_TRANSACTION, body)], accounts(100))


def mixed(changes: int) -> Backlog:
    """Write to five tables that refer to one another: half inserts, two in five updates."""
    before = ACCOUNTS
    number = f"{before} + t"
    inserts = [chain(table, number, number) for table in CHAIN_TABLES[1:]]
    known = f"1 + mod(t * 7919, {before})"
    updates = [
        f"update credit.{table} set {change} where id = md5('{entity}:' || {known})::uuid"
        for table, entity, change in (
            ("businesses", "business", "employees = mod(t, 5000)"),
            ("applications", "application", "purpose = 'changed ' || t"),
            ("offers", "offer", "terms = jsonb_build_object('changed', t)"),
            ("credit_accounts", "account", "balance = balance + t * 0.01"),
        )
    ]
    delete = "delete from credit.transactions where external_id = 'chain-' || t"
    body = ";\n".join([*inserts, *updates, delete])
    rows = [chain(table, "1", str(before)) for table in CHAIN_TABLES]
    return Backlog(changes, [transactions(changes // PER_TRANSACTION, body)], rows)


def wide(changes: int) -> Backlog:
    """Insert rows of a hundred columns, then update one column of a fifth of them."""
    kinds = {
        "text": "'value ' || {n} + {c}",
        "numeric": "({n} + {c}) * 1.01",
        "bigint": "{n} * {c}",
        "timestamptz": "timestamptz '2026-01-01 00:00Z' + {n} * interval '1.001 s'",
        "boolean": "mod({n}, {c} + 2) = 0",
    }
    columns = [(f"c{c:02}", list(kinds)[c % len(kinds)]) for c in range(_WIDE_COLUMNS - 1)]
    table = "create table credit.wide (id bigint primary key, {})".format(
        ", ".join(f"{name} {kind}" for name, kind in columns)
    )
    values = ", ".join(kinds[kind].format(n="k", c=int(name[1:])) for name, kind in columns)
    updated = changes // 5 // PER_TRANSACTION
    inserted = changes // PER_TRANSACTION - updated
    per = PER_TRANSACTION
    rows = (
        f"insert into credit.wide select k, {values}"
        f" from generate_series((t - 1) * {per} + 1, t * {per}) as k"
    )
    one = each("update credit.wide set c00 = 'changed' where id = k")
    return Backlog(
        changes, [transactions(inserted, rows), transactions(updated, one)], tables=[table]
    )


def toast(changes: int) -> Backlog:
    """Insert large values that do not compress, then update as many rows that keep theirs."""
    half = changes // 2 // PER_TRANSACTION
    text = (
        f"(select string_agg(md5(i::text), '') from generate_series(1, {_JSON_BYTES // 32}) as i)"
    )
    inserts = transactions(
        half,
        "insert into credit.documents"
        " (id, application_id, kind, file_name, extracted, sha256)"
        " select md5('document:' || k)::uuid, md5('application:' || 1)::uuid, 'contract', 'scan',"
        " jsonb_build_object('n', k, 'text', substr(body, mod(k, 1000))), sha256(k::text::bytea)"
        " from bench_text,"
        f" generate_series((t - 1) * {PER_TRANSACTION} + 1, t * {PER_TRANSACTION}) as k",
    )
    updates = transactions(
        half,
        each("update credit.documents set note = 'read' where id = md5('document:' || k)::uuid"),
    )
    before = f"create temp table bench_text as select {text} as body"
    return Backlog(changes, [before, inserts, updates], accounts(1))


WORKLOADS: dict[str, tuple[int, Callable[[int], Backlog]]] = {
    "insert": (500_000, insert),
    "update": (300_000, update),
    "hot": (300_000, hot),
    "mixed": (300_000, mixed),
    "tiny": (200_000, tiny),
    "wide": (100_000, wide),
    "toast": (8_000, toast),
    "big": (5_000_000, big),
}
"""Each with its changes at scale 1."""


def backlog(workload: str, scale: float) -> Backlog:
    """Give a workload at a scale; whole transactions, and at least two of them."""
    changes, make = WORKLOADS[workload]
    step = 2 * PER_TRANSACTION
    return make(max(step, round(changes * scale) // step * step))

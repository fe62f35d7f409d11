"""Fills the credit schema: about as many rows as asked for, spread over its tables.

The server makes the rows in set-based inserts, so that 200,000 of them take seconds. The same
seed gives the same rows, except for what defaults to now(). The tables must be empty. Nothing
outside the credit schema is touched: applications belong to the users that
sql/credit/002_add_supabase_extras.sql puts in place of Supabase's.
"""

import random
from collections.abc import Callable
from typing import LiteralString

import psycopg
from psycopg import sql

Progress = Callable[[str, int, int], None]
"""Called with the table, the rows that are in it, and the rows that it will have."""

USERS = 1000  # as many as sql/credit/002_add_supabase_extras.sql has

CHUNK_ROWS = 10_000  # per insert: small enough for a progress bar to move

SHARES = {  # of every thousand rows; audit_events gets what is left
    "businesses": 60,
    "applications": 140,
    "offers": 170,
    "credit_accounts": 40,
    "transactions": 270,
    "payment_schedules": 160,
    "documents": 20,
}

# Keys are made from the row's number, so a child finds its parent without a join. random() is
# seeded for each chunk.
KEY_FUNCTION: LiteralString = """
create or replace function pg_temp.key(entity text, n bigint) returns uuid
    language sql immutable
    return md5({seed} || ':' || entity || ':' || n)::uuid
"""

INSERTS: dict[str, LiteralString] = {
    "providers": """
        insert into credit.providers
            (code, external_id, name, rank, base_rate, regions, limits, settings, webhook_source)
        select 'provider-' || n, pg_temp.key('provider', n), 'Provider ' || n, n,
            0.01 + random()::numeric / 10,
            (array['DE', 'FR', 'NL', 'US', 'Côte d''Ivoire'])[:1 + mod(n, 5)],
            array[1000, 50000.50, null, n * 100000],
            jsonb_build_object('channel', 'api', 'retries', mod(n, 4), 'name', 'Nº ' || n),
            '10.0.0.0'::inet + n
        from generate_series(%(first)s::int, %(last)s::int) as n
    """,
    "provider_rates": """
        insert into credit.provider_rates
            (provider_code, effective_on, rate, amounts, curve, raw)
        select 'provider-' || mod(n - 1, %(providers)s) + 1,
            date '2025-01-01' + (n - 1) / %(providers)s,
            0.02 + random()::numeric / 10, numrange(n, n + 50000),
            array[random(), random() / 3, 1 / (n + 1)::float8],
            json_build_object('sheet', n, 'valid', true)
        from generate_series(%(first)s::int, %(last)s::int) as n
    """,
    "businesses": """
        insert into credit.businesses
            (id, parent_id, registration_number, tax_number, legal_name, trading_names, country,
             founded_on, employees, annual_revenue, address)
        select pg_temp.key('business', n),
            case when mod(n, 10) = 0 then pg_temp.key('business', n / 10) end,
            'HRB ' || n, case when mod(n, 3) > 0 then 'TAX-' || n end,
            (array['Müller', 'O''Brien', '山田', 'Smith', 'Łukasz'])[1 + mod(n, 5)] || ' ' || n,
            case when mod(n, 4) = 0 then array['Shop ' || n, 'a "quoted" name'] else '{}' end,
            (array['DE', 'IE', 'JP', 'US', 'PL'])[1 + mod(n, 5)],
            date '1950-01-01' + (random() * 26000)::int, (random() ^ 4 * 5000)::int,
            (random() ^ 3 * 1e8)::numeric,
            jsonb_build_object('street', n || ' Main St', 'city', 'Zürich', 'zip', 8000 + n)
        from generate_series(%(first)s::int, %(last)s::int) as n
    """,
    # Applications crowd on a few businesses; the first offers are the accepted ones, with an
    # account each, so their applications are the approved ones.
    "applications": """
        insert into credit.applications
            (id, user_id, business_id, amount_requested, purpose, loan_term_months, status,
             risk_score, required_documents, tags, client_address, decide_within, valid_until,
             submitted_at, metadata)
        select pg_temp.key('application', n),
            md5('user:' || 1 + (random() * (%(users)s - 1))::int)::uuid,
            pg_temp.key('business', 1 + floor(random() ^ 2 * %(businesses)s)::int),
            1000 + (random() ^ 3 * 500000)::numeric,
            (array['working capital', 'equipment', 'expansion', 'refinancing'])[1 + mod(n, 4)],
            6 + mod(n, 115),
            case when n <= %(credit_accounts)s then 'approved'
                else (array['draft', 'submitted', 'in_review', 'declined'])[1 + mod(n, 4)]
            end::credit.application_status,
            random(), array['bank_statement', 'contract']::credit.document_kind[],
            array['web', 'tier-' || mod(n, 3)], '192.168.0.0'::inet + n, interval '10 days 04:00',
            date '2027-01-01' + mod(n, 365), timestamptz '2026-01-01 00:00Z' + n * interval '97 s',
            case when mod(n, 2) = 0
                then jsonb_build_object('campaign', n, 'score', random()::numeric) end
        from generate_series(%(first)s::int, %(last)s::int) as n
    """,
    "offers": """
        insert into credit.offers
            (id, application_id, provider_code, status, amount, interest_rate, interest_score,
             fees, terms, expires_on, cooling_off)
        select pg_temp.key('offer', n),
            pg_temp.key('application', 1 + mod(n - 1, %(applications)s)),
            'provider-' || 1 + mod(
                mod(n - 1, %(applications)s) * 7 + (n - 1) / %(applications)s, %(providers)s),
            case when n <= %(credit_accounts)s then 'accepted' else 'open' end::credit.offer_status,
            1000 + (random() ^ 3 * 500000)::numeric, 0.03 + random()::numeric / 8, random(),
            array[round(random()::numeric * 100, 2), 0],
            jsonb_build_object('grace_days', mod(n, 30), 'text', repeat('term ', mod(n, 20))),
            date '2026-06-01' + mod(n, 200), interval '14 days'
        from generate_series(%(first)s::int, %(last)s::int) as n
    """,
    "credit_accounts": """
        insert into credit.credit_accounts
            (id, account_no, offer_id, business_id, currency, credit_limit, balance, opened_on)
        select pg_temp.key('account', n), 'AC' || lpad(n::text, 10, '0'), o.id, a.business_id,
            a.currency, o.amount, (random()::numeric - 0.1) * o.amount,
            date '2026-02-01' + mod(n, 99)
        from generate_series(%(first)s::int, %(last)s::int) as n
        join credit.offers o on o.id = pg_temp.key('offer', n)
        join credit.applications a on a.id = o.application_id
    """,
    "transactions": """
        insert into credit.transactions
            (account_id, external_id, kind, amount, exchange_rate, currency, booked_at, value_on,
             description, metadata)
        select pg_temp.key('account', 1 + floor(random() * %(credit_accounts)s)::int),
            case when mod(n, 5) > 0 then 'ext-' || n end,
            (array['drawdown', 'repayment', 'interest', 'fee']::credit.transaction_kind[])
                [1 + mod(n, 4)],
            (random()::numeric - 0.5) * 10000, case when mod(n, 9) = 0 then random()::numeric end,
            'EUR', timestamptz '2026-02-01 00:00Z' + n * interval '31.000007 s',
            date '2026-02-01' + n / 3000, case when mod(n, 3) > 0 then 'Booking ' || n end,
            case when mod(n, 8) = 0 then jsonb_build_object('batch', n / 100) end
        from generate_series(%(first)s::int, %(last)s::int) as n
    """,
    "payment_schedules": """
        insert into credit.payment_schedules
            (account_id, installment_no, reference, status, due_on, principal, interest, paid_at)
        select pg_temp.key('account', 1 + mod(n - 1, %(credit_accounts)s)),
            1 + (n - 1) / %(credit_accounts)s, 'PS-' || n,
            case when mod(n, 3) = 0 then 'paid' else 'due' end::credit.installment_status,
            date '2026-03-01' + 30 * ((n - 1) / %(credit_accounts)s),
            random()::numeric * 2000, random()::numeric * 100,
            case when mod(n, 3) = 0 then timestamptz '2026-03-01 00:00Z' + n * interval '1 s' end
        from generate_series(%(first)s::int, %(last)s::int) as n
    """,
    # Four bodies in five are out of line, one in a hundred is large; hexadecimal digits of md5 do
    # not compress well, so most of what is extracted is out of line too.
    "documents": """
        insert into credit.documents
            (id, application_id, kind, file_name, pages, body, extracted, thumbnail, sha256)
        select pg_temp.key('document', n),
            pg_temp.key('application', 1 + floor(random() * %(applications)s)::int),
            (array['bank_statement', 'annual_report', 'contract']::credit.document_kind[])
                [1 + mod(n, 3)],
            'scan ' || n || '.pdf', 1 + mod(n, 40),
            repeat(
                md5(n::text), case when mod(n, 100) = 0 then 6000 else (random() * 300)::int end),
            jsonb_build_object('pages', mod(n, 40), 'text', (
                select string_agg(md5(n || '.' || i), ' ')
                from generate_series(1, mod(n, 200)) as i)),
            decode(repeat(md5('thumbnail' || n), mod(n, 30)), 'hex'), sha256(n::text::bytea)
        from generate_series(%(first)s::int, %(last)s::int) as n
    """,
    "audit_events": """
        insert into credit.audit_events
            (occurred_at, actor, actor_address, entity, entity_key, action, payload, signature)
        select timestamptz '2026-01-01 00:00Z' + n * interval '53 s', 'user' || mod(n, 1000),
            '2001:db8::'::inet + n, 'application',
            pg_temp.key('application', 1 + mod(n, %(applications)s))::text,
            (array['created', 'viewed', 'changed'])[1 + mod(n, 3)],
            case when mod(n, 2) = 0 then jsonb_build_object('field', 'status', 'n', n) end,
            case when mod(n, 50) = 0 then decode(md5(n::text), 'hex') end
        from generate_series(%(first)s::int, %(last)s::int) as n
    """,
}


def planned_rows(rows: int) -> dict[str, int]:
    """Return the number of rows of each table, parents first, for about `rows` in all."""
    counts = {"providers": max(8, rows // 200)}
    counts["provider_rates"] = counts["providers"] * 3
    for table, share in SHARES.items():
        counts[table] = max(4, rows * share // 1000)
    counts["audit_events"] = max(4, rows - sum(counts.values()))
    return counts


def load(dsn: str, rows: int, *, seed: int = 1, progress: Progress | None = None) -> dict[str, int]:
    """Load about `rows` rows into the empty tables of the credit schema; return them by table."""
    counts = planned_rows(rows)
    with psycopg.connect(dsn, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute(sql.SQL(KEY_FUNCTION).format(seed=sql.Literal(str(seed))))
        for table, planned in counts.items():
            for first in range(1, planned + 1, CHUNK_ROWS):
                last = min(first + CHUNK_ROWS - 1, planned)
                start = random.Random(f"{seed}:{table}:{first}").uniform(-1, 1)
                connection.execute("select setseed(%s)", (start,))
                connection.execute(
                    INSERTS[table], {**counts, "users": USERS, "first": first, "last": last}
                )
                if progress is not None:
                    progress(table, last, planned)
            # Autovacuum would come too late for the queries that follow.
            connection.execute(sql.SQL("analyze {}").format(sql.Identifier("credit", table)))
    return counts

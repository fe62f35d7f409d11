"""Rows of five tables that refer to one another, a chain for each number: business to booking."""

CHAIN_TABLES = (
    "providers",
    "businesses",
    "applications",
    "offers",
    "credit_accounts",
    "transactions",
)
"""In the order of their references; the providers are few, and all chains share them."""

_PROVIDERS = 8

_INSERTS = {
    "providers": f"""
        insert into credit.providers (code, external_id, name, rank, base_rate)
        select 'provider-' || n, md5('provider:' || n)::uuid, 'Provider ' || n, n, 0.01 * n
        from generate_series(1, {_PROVIDERS}) as n
    """,
    "businesses": """
        insert into credit.businesses
            (id, registration_number, tax_number, legal_name, trading_names, country, founded_on,
             employees, annual_revenue, address)
        select md5('business:' || n)::uuid, 'HRB ' || n, 'TAX-' || n, 'Müller ' || n,
            array['Shop ' || n], 'DE', date '1950-01-01' + mod(n, 26000), mod(n, 5000), n * 13.5,
            jsonb_build_object('street', n || ' Main St', 'city', 'Zürich')
        from generate_series({first}, {last}) as n
    """,
    "applications": """
        insert into credit.applications
            (id, user_id, business_id, amount_requested, purpose, loan_term_months, status,
             risk_score, tags, client_address, decide_within, valid_until, metadata)
        select md5('application:' || n)::uuid, md5('user:' || 1 + mod(n, 1000))::uuid,
            md5('business:' || n)::uuid, 1000 + mod(n, 500000), 'working capital', 6 + mod(n, 115),
            'approved', 1.0 / n, array['web'], '192.168.0.0'::inet + mod(n, 65000),
            interval '10 days 04:00', date '2027-01-01' + mod(n, 365),
            jsonb_build_object('campaign', n)
        from generate_series({first}, {last}) as n
    """,
    "offers": f"""
        insert into credit.offers
            (id, application_id, provider_code, status, amount, interest_rate, interest_score,
             fees, terms, expires_on, cooling_off)
        select md5('offer:' || n)::uuid, md5('application:' || n)::uuid,
            'provider-' || 1 + mod(n, {_PROVIDERS}), 'accepted', 1000 + mod(n, 500000), 0.0371, 0.5,
            array[12.5, 0], jsonb_build_object('grace_days', mod(n, 30)),
            date '2026-06-01' + mod(n, 200), interval '14 days'
        from generate_series({{first}}, {{last}}) as n
    """,
    "credit_accounts": """
        insert into credit.credit_accounts
            (id, account_no, offer_id, business_id, currency, credit_limit, balance, opened_on)
        select md5('account:' || n)::uuid, 'AC' || lpad(n::text, 10, '0'),
            md5('offer:' || n)::uuid, md5('business:' || n)::uuid, 'EUR', 1000 + mod(n, 500000),
            mod(n, 1000), date '2026-02-01' + mod(n, 99)
        from generate_series({first}, {last}) as n
    """,
    "transactions": """
        insert into credit.transactions
            (account_id, external_id, kind, amount, currency, value_on, description)
        select md5('account:' || n)::uuid, 'chain-' || n, 'drawdown', n * 0.0137, 'EUR',
            date '2026-02-01', 'Payout ' || n
        from generate_series({first}, {last}) as n
    """,
}


def chain(table: str, first: str, last: str) -> str:
    """Give the insert of one table's rows with the numbers from `first` to `last`."""
    return _INSERTS[table].format(first=first, last=last)

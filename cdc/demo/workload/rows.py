"""Rows of the credit schema: new ones for each table, ordinary and awkward; which may be deleted.

Each inserts and returns the key. Parents are given, or chosen and locked.
"""

from hashlib import md5
from typing import LiteralString
from uuid import UUID

from cdc.demo.workload import values
from cdc.demo.workload.loading import USERS
from cdc.demo.workload.writer import Writer

# What no foreign key keeps from being deleted: conditions on t, the table in question.
WITHOUT_OFFERS: LiteralString = (
    "not exists (select from credit.offers o where o.provider_code = t.code)"
)
WITHOUT_APPLICATIONS: LiteralString = (
    "not exists (select from credit.applications a where a.business_id = t.id)"
)
WITHOUT_ACCOUNT: LiteralString = (
    "not exists (select from credit.offers o join credit.credit_accounts c on c.offer_id = o.id"
    " where o.application_id = t.id)"
)


def insert_provider(w: Writer) -> UUID:
    """Insert a provider."""
    provider = values.key(w.rng)
    w.insert(
        "providers",
        code=w.unique("provider"),
        external_id=provider,
        name=values.text(w.rng) or "Unnamed",
        rank=w.run * 1_000_000_000 + w.serial,
        base_rate=values.numeric(w.rng),
        regions=w.rng.choice(values.TEXT_ARRAYS),
        limits=w.rng.choice(values.NUMERIC_ARRAYS),
        settings=w.rng.choice(values.JSONS) or "{}",
        api_timeout=w.rng.choice(values.INTERVALS),
        webhook_source=w.rng.choice(values.ADDRESSES),
    )
    return provider


def insert_business(
    w: Writer, *, parent: UUID | None = None, registration_number: str | None = None
) -> UUID:
    """Insert a business."""
    business = values.key(w.rng)
    w.insert(
        "businesses",
        id=business,
        parent_id=parent,
        registration_number=registration_number or w.unique("REG"),
        tax_number=w.rng.choice((None, w.unique("TAX"))),
        legal_name=values.text(w.rng) or "Unnamed",
        trading_names=w.rng.choice(values.TEXT_ARRAYS),
        country=w.rng.choice(("DE", "F", "")),
        founded_on=w.rng.choice(values.DATES),
        annual_revenue=values.money(w.rng),
        address=w.rng.choice(values.JSONS) or "{}",
    )
    return business


def insert_application(w: Writer, business: UUID, key: UUID | None = None) -> UUID:
    """Insert an application, with a key of its own or the one given."""
    application = key or values.key(w.rng)
    user = md5(f"user:{w.rng.randint(1, USERS)}".encode(), usedforsecurity=False).hexdigest()
    w.insert(
        "applications",
        id=application,
        user_id=user,
        business_id=business,
        amount_requested=values.money(w.rng),
        purpose=values.text(w.rng) or "",
        loan_term_months=w.rng.randint(1, 480),
        status="submitted",
        risk_score=values.float8(w.rng),
        required_documents=w.rng.choice(("{}", "{contract,identity}", None)) or "{other}",
        tags=w.rng.choice(values.TEXT_ARRAYS),
        client_address=w.rng.choice(values.ADDRESSES),
        decide_within=w.rng.choice(values.INTERVALS),
        valid_until=w.rng.choice(values.DATES),
        submitted_at=w.rng.choice(values.TIMESTAMPS),
        metadata=w.rng.choice(values.JSONS),
    )
    return application


def insert_offer(w: Writer, application: UUID, key: UUID | None = None) -> UUID:
    """Insert an offer of some provider, unless it has made one; with this key, or its own."""
    offer = key or values.key(w.rng)
    w.write(
        """
        insert into credit.offers (id, application_id, provider_code, amount, interest_rate,
            interest_score, fees, terms, expires_on)
        select %s, %s, code, %s, %s, %s, %s, %s, %s from credit.providers where external_id = %s
        on conflict (application_id, provider_code) do nothing
        """,
        offer,
        application,
        values.money(w.rng),
        values.numeric(w.rng),
        values.float8(w.rng),
        w.rng.choice(values.NUMERIC_ARRAYS[:2]),
        w.rng.choice(values.JSONS) or "{}",
        w.rng.choice(values.DATES),
        w.parent("providers"),
    )
    return offer


def insert_account(w: Writer, offer: UUID, business: UUID) -> UUID:
    """Insert an account with its payment schedule."""
    account = values.key(w.rng)
    w.insert(
        "credit_accounts",
        id=account,
        account_no=w.unique("AC"),
        offer_id=offer,
        business_id=business,
        currency="EUR",
        credit_limit=values.money(w.rng),
        opened_on="2026-03-01",
    )
    w.write(
        """
        insert into credit.payment_schedules
            (account_id, installment_no, reference, due_on, grace, principal, interest, note)
        select %s, n, %s || '-' || n, date '2026-03-01' + 30 * n, %s, 1000, %s, %s
        from generate_series(1, %s) as n
        """,
        account,
        w.unique("PS"),
        w.rng.choice(values.INTERVALS),
        values.numeric(w.rng),
        values.text(w.rng),
        w.rng.randint(3, 24),
    )
    return account


def insert_transaction(w: Writer, account: UUID) -> None:
    """Insert a transaction on an account; its key is the server's."""
    w.insert(
        "transactions",
        account_id=account,
        external_id=w.rng.choice((None, w.unique("ext"))),
        kind=w.rng.choice(("drawdown", "repayment", "correction")),
        amount=w.rng.choice((values.money(w.rng), "-0.0001", "NaN")),
        exchange_rate=w.rng.choice((None, values.numeric(w.rng))),
        currency="EUR",
        booked_at=w.rng.choice(values.TIMESTAMPS),
        value_on=w.rng.choice(values.DATES) or "2026-03-01",
        description=values.text(w.rng),
        metadata=w.rng.choice(values.JSONS),
    )


def insert_document(w: Writer, application: UUID, key: UUID | None = None) -> UUID:
    """Insert a document, large or small, with a key of its own or the one given."""
    document = key or values.key(w.rng)
    w.insert(
        "documents",
        id=document,
        application_id=application,
        kind="contract",
        file_name=values.text(w.rng) or "contract.pdf",
        body=w.rng.choice((None, "", values.long_text(w.rng))),
        extracted=w.rng.choice((None, values.document_json(w.rng))),
        thumbnail=values.binary(w.rng),
        sha256=w.rng.randbytes(32),
        note=values.text(w.rng),
    )
    return document


def insert_audit_event(w: Writer, entity: str, key: str, action: str) -> None:
    """Insert an audit event; its key is the server's."""
    w.insert(
        "audit_events",
        actor="workload",
        actor_address=w.rng.choice(values.ADDRESSES),
        entity=entity,
        entity_key=key,
        action=action,
        payload=w.rng.choice(values.JSONS),
        signature=values.binary(w.rng),
    )

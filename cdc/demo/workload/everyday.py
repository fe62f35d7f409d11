"""Everyday transactions on the source: rows come, change and go, one table or many at a time.

One function for each kind; what it does to the change stream is its docstring. Each runs inside a
transaction that its caller opens. Where it finds no row to work on, it gives up by rolling back.
None violates a constraint, whatever the random choices and whoever else writes.
"""

import psycopg

from cdc.demo.workload import values
from cdc.demo.workload.rows import (
    WITHOUT_ACCOUNT,
    WITHOUT_APPLICATIONS,
    WITHOUT_OFFERS,
    insert_account,
    insert_application,
    insert_audit_event,
    insert_business,
    insert_document,
    insert_offer,
    insert_provider,
    insert_transaction,
)
from cdc.demo.workload.writer import Writer


def register_group(w: Writer) -> None:
    """Insert a parent and its children, which refer to it in the same table."""
    parent = insert_business(w)
    for _ in range(w.rng.randint(1, 3)):
        insert_business(w, parent=parent)


def open_application(w: Writer) -> None:
    """Insert an application with some documents."""
    application = insert_application(w, w.parent("businesses"))
    for _ in range(w.rng.randrange(3)):
        insert_document(w, application)


def make_offer(w: Writer) -> None:
    """Insert an offer, or find that the provider has made one and write nothing."""
    insert_offer(w, w.parent("applications"))


def finance_business(w: Writer) -> None:
    """Insert from business to audit event, into eight tables that refer to one another."""
    business = insert_business(w)
    application = insert_application(w, business)
    offer = insert_offer(w, application)
    for _ in range(w.rng.randrange(3)):
        insert_offer(w, application)
    w.update("offers", offer, status="accepted")
    w.update("applications", application, status="approved")
    account = insert_account(w, offer, business)
    insert_transaction(w, account)
    insert_audit_event(w, "account", str(account), "opened")


def book_transactions(w: Writer) -> None:
    """Insert bookings and update the balance, which a generated column depends on."""
    account = w.some("credit_accounts")
    for _ in range(w.rng.randint(1, 5)):
        insert_transaction(w, account)
    w.update("credit_accounts", account, balance=values.money(w.rng))


def edit_application(w: Writer) -> None:
    """Update a row to values that a careless copy would change."""
    w.update(
        "applications",
        w.some("applications"),
        purpose=values.text(w.rng) or "",
        risk_score=values.float8(w.rng),
        tags=w.rng.choice(values.TEXT_ARRAYS),
        client_address=w.rng.choice(values.ADDRESSES),
        decide_within=w.rng.choice(values.INTERVALS),
        valid_until=w.rng.choice(values.DATES),
        metadata=w.rng.choice(values.JSONS),
    )


def decide_application(w: Writer) -> None:
    """Update a status, of which a trigger writes an audit event."""
    status = w.rng.choice(("approved", "declined", "in_review"))
    w.update("applications", w.some("applications"), status=status)


def annotate_document(w: Writer) -> None:
    """Update a row, and leave its large values as they are."""
    w.update("documents", w.some("documents"), note=values.text(w.rng))


def replace_document(w: Writer) -> None:
    """Update a large value, then the row without it, in one transaction."""
    document = w.some("documents")
    body = w.rng.choice((None, "short", values.long_text(w.rng)))
    w.update("documents", document, body=body)
    w.update("documents", document, pages=w.rng.randint(1, 100))


def settle_installments(w: Writer) -> None:
    """Update all rows of an account, in a table whose replica identity is the whole row."""
    w.write(
        """
        update credit.payment_schedules set status = 'paid', paid_at = now(), note = %s
        where account_id = %s
        """,
        w.rng.choice((values.text(w.rng), values.long_text(w.rng))),
        w.some("credit_accounts"),
    )


def reprice_offers(w: Writer) -> None:
    """Update all offers of a provider with one statement."""
    w.write(
        """
        update credit.offers set interest_rate = %s, interest_score = %s
        where provider_code = (select code from credit.providers where external_id = %s)
        """,
        values.numeric(w.rng),
        values.float8(w.rng),
        w.parent("providers"),
    )


def import_rates(w: Writer) -> None:
    """Insert rates for a new or known provider, or update them where there are some."""
    provider = insert_provider(w) if w.rng.random() < 1 / 2 else w.parent("providers")
    for effective_on in w.rng.sample(values.DATES, 3):
        w.write(
            """
            insert into credit.provider_rates
                (provider_code, effective_on, rate, amounts, curve, raw)
            select code, %s, %s, %s, %s, %s from credit.providers where external_id = %s
            on conflict (provider_code, effective_on) do update
                set rate = excluded.rate, raw = excluded.raw
            """,
            effective_on or "2026-01-01",
            values.numeric(w.rng),
            w.rng.choice(("(,)", "empty", "[1.50,)", None)),
            [values.float8(w.rng), None],
            w.rng.choice(values.JSONS),
            provider,
        )


def expire_rates(w: Writer) -> None:
    """Delete rows that are known by an index only."""
    w.write(
        """
        delete from credit.provider_rates where isfinite(effective_on) and provider_code = (
            select code from credit.providers where external_id = %s
        )
        """,
        w.some("providers"),
    )


def retire_provider(w: Writer) -> None:
    """Delete a row without offers, and by cascade rows that are known by an index only."""
    w.delete("providers", w.some("providers", if_=WITHOUT_OFFERS), if_=WITHOUT_OFFERS)


def touch_business(w: Writer) -> None:
    """Update rows to the values that they have."""
    business = w.some("businesses")
    w.write("update credit.businesses set employees = employees where id = %s", business)
    w.write(
        "update credit.applications set status = status, metadata = metadata "
        "where business_id = %s and status = 'draft'",
        business,
    )


def delete_application(w: Writer) -> None:
    """Delete a row without an account, and by cascade its offers and documents."""
    w.delete("applications", w.some("applications", if_=WITHOUT_ACCOUNT), if_=WITHOUT_ACCOUNT)


def close_account(w: Writer) -> None:
    """Delete children and then their parent, which has more of them that go by cascade."""
    account = w.some("credit_accounts")
    w.write("delete from credit.transactions where account_id = %s", account)
    w.delete("credit_accounts", account)


def dissolve_business(w: Writer) -> None:
    """Delete a row without applications; its children lose their reference to it (set null)."""
    w.delete("businesses", w.some("businesses", if_=WITHOUT_APPLICATIONS), if_=WITHOUT_APPLICATIONS)


def prune_audit_events(w: Writer) -> None:
    """Delete the oldest rows of a table with one statement."""
    w.write(
        """
        delete from credit.audit_events where id in (
            select id from credit.audit_events order by id limit %s for update skip locked
        )
        """,
        w.rng.randint(1, 30),
    )


def change_mind(w: Writer) -> None:
    """Roll back to a savepoint, and insert differently what was rolled back."""
    application = w.some("applications")
    document = values.key(w.rng)
    with w.undone():
        insert_document(w, application, document)
        w.update("applications", application, purpose="rolled back")
    insert_document(w, application, document)


def abandon(w: Writer) -> None:
    """Write to many tables, and roll it all back."""
    finance_business(w)
    book_transactions(w)
    raise psycopg.Rollback

"""Transactions on the source in which keys and unique values change, change owner and come again.

These are the ones that a copy gets wrong if it knows a row by its last key only, or applies the
changes of a batch in another order. One function for each kind, as in `everyday`.
"""

from cdc.demo.workload import values
from cdc.demo.workload.rows import (
    WITHOUT_ACCOUNT,
    WITHOUT_APPLICATIONS,
    insert_application,
    insert_business,
    insert_document,
    insert_offer,
)
from cdc.demo.workload.writer import Writer

CODES = ("provider", "o'hare", "back\\slash", "tab\tand\nline", "größe 東京", " spaces ")


def _rename(w: Writer, old: str, new: str) -> None:
    w.write("update credit.providers set code = %s where code = %s", new, old)


def _code(w: Writer) -> str:
    """Choose a provider to be renamed."""
    code = w.read("select code from credit.providers where external_id = %s", w.some("providers"))[
        0
    ]
    assert isinstance(code, str)
    return code


def rename_provider(w: Writer) -> None:
    """Change a natural key, once or twice, and by cascade all references and a child's key."""
    code = _code(w)
    for _ in range(w.rng.randint(1, 2)):
        new = w.unique(w.rng.choice(CODES))
        _rename(w, code, new)
        code = new


def exchange_provider_codes(w: Writer) -> None:
    """Exchange the primary keys of two rows, and by cascade all that refers to them."""
    one, other = _code(w), _code(w)
    between = w.unique("between")
    _rename(w, one, between)
    if other != one:
        _rename(w, other, one)
    _rename(w, between, other)


def exchange_provider_ranks(w: Writer) -> None:
    """Exchange a unique value of two rows in one statement: the constraint is deferrable."""
    pair = [w.some("providers"), w.some("providers")]
    w.write(
        """
        update credit.providers p set rank = q.rank from credit.providers q
        where p.external_id = any (%s) and q.external_id = any (%s) and p.code <> q.code
        """,
        pair,
        pair,
    )


def move_rate(w: Writer) -> None:
    """Change the key of a row that is known by an index only."""
    code = _code(w)
    w.write(
        """
        update credit.provider_rates set effective_on = new.effective_on
        from (
            select min(effective_on) as oldest, max(effective_on) + 1 as effective_on
            from credit.provider_rates where provider_code = %s and isfinite(effective_on)
        ) as new
        where provider_code = %s and provider_rates.effective_on = new.oldest
        """,
        code,
        code,
    )


def exchange_registration_numbers(w: Writer) -> None:
    """Exchange a unique value of two rows, by way of a third value."""
    one, other = w.some("businesses"), w.some("businesses")
    query = "select registration_number from credit.businesses where id = %s"
    number_of_one, number_of_other = w.read(query, one)[0], w.read(query, other)[0]
    w.update("businesses", one, registration_number=w.unique("REG"))
    w.update("businesses", other, registration_number=number_of_one)
    if one != other:
        w.update("businesses", one, registration_number=number_of_other)


def reregister_business(w: Writer) -> None:
    """Delete a row, and insert one with another key that takes over its unique value."""
    business = w.some("businesses", if_=WITHOUT_APPLICATIONS)
    number = w.read("select registration_number from credit.businesses where id = %s", business)[0]
    if w.delete("businesses", business, if_=WITHOUT_APPLICATIONS):
        insert_business(w, registration_number=number)


def switch_accepted_offer(w: Writer) -> None:
    """Accept another row than before, where a partial unique index lets only one be accepted."""
    application = w.some("applications")
    w.write(
        "update credit.offers set status = 'declined' "
        "where application_id = %s and status = 'accepted'",
        application,
    )
    w.write(
        """
        update credit.offers set status = 'accepted' where id = (
            select id from credit.offers where application_id = %s order by updated_at, id limit 1
        )
        """,
        application,
    )


def reinsert_application(w: Writer) -> None:
    """Delete a row with all that hangs on it, and insert another one with its key."""
    application = w.some("applications", if_=WITHOUT_ACCOUNT)
    business = w.parent("businesses")
    if w.delete("applications", application, if_=WITHOUT_ACCOUNT):
        insert_application(w, business, application)
        insert_offer(w, application)


def withdraw_application(w: Writer) -> None:
    """Insert a row, change it and what hangs on it, and delete it again."""
    application = insert_application(w, w.parent("businesses"))
    insert_offer(w, application)
    document = insert_document(w, application)
    w.update("documents", document, note="withdrawn")
    w.update("applications", application, status="withdrawn")
    w.delete("applications", application)


def rekey_document(w: Writer) -> None:
    """Change the key of a row, and leave its large values as they are."""
    w.update("documents", w.some("documents"), id=values.key(w.rng))


def reinsert_document(w: Writer) -> None:
    """Delete a row with large values, and insert another one with its key, perhaps twice."""
    document, application = w.some("documents"), w.parent("applications")
    for _ in range(w.rng.randint(1, 2)):
        w.delete("documents", document)
        insert_document(w, application, document)


def append_installment(w: Writer) -> None:
    """Change one part of a composite key: the first installment goes behind the last."""
    account = w.some("credit_accounts")
    w.write(
        """
        update credit.payment_schedules p set installment_no = ends.last + 1
        from (
            select min(installment_no) as first, max(installment_no) as last
            from credit.payment_schedules where account_id = %s
        ) as ends
        where p.account_id = %s and p.installment_no = ends.first
        """,
        account,
        account,
    )


def renumber_installments(w: Writer) -> None:
    """Change all keys of an account twice, to keys that other rows had: the order is reversed."""
    account = w.some("credit_accounts")
    w.write(
        "update credit.payment_schedules set installment_no = installment_no + 1000000 "
        "where account_id = %s",
        account,
    )
    w.write(
        """
        update credit.payment_schedules p set installment_no = reversed.n
        from (
            select installment_no, row_number() over (order by installment_no desc) as n
            from credit.payment_schedules where account_id = %s
        ) as reversed
        where p.account_id = %s and p.installment_no = reversed.installment_no
        """,
        account,
        account,
    )


def reinsert_installment(w: Writer) -> None:
    """Delete a row, and insert another one with its composite key and its unique value."""
    account = w.some("credit_accounts")
    number, reference = w.read(
        """
        select installment_no, reference from credit.payment_schedules
        where account_id = %s order by installment_no limit 1
        """,
        account,
    )
    w.write(
        "delete from credit.payment_schedules where account_id = %s and installment_no = %s",
        account,
        number,
    )
    w.insert(
        "payment_schedules",
        account_id=account,
        installment_no=number,
        reference=reference,
        due_on=w.rng.choice(values.DATES) or "2026-03-01",
        grace=w.rng.choice(values.INTERVALS),
        principal=values.money(w.rng),
        interest=values.numeric(w.rng),
        note=values.text(w.rng),
    )

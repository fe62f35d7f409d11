"""What promotion takes back: only what the ledger says that we did, and what still stands."""

import pytest

from cdc.assure.failover.alterations import Altered, Key, Noted, plan, to_validate
from cdc.target import tables

TABLE = ("credit", "account")
OTHER = ("credit", "bank")
CASCADES = "FOREIGN KEY (bank) REFERENCES credit.bank(code) ON DELETE CASCADE"


def key(**changes: bool) -> Key:
    """Give a foreign key as we leave it on a copy."""
    given = {"acts": False, "deferrable": True, "validated": True, "partitioned": False} | changes
    return Key(TABLE, "of bank", OTHER, **given)


def noted(*entries: tuple[str, str]) -> list[Noted]:
    """Give entries of the ledger, the oldest first."""
    return [Noted(n, event, detail) for n, (event, detail) in enumerate(entries)]


def statements(ledger: list[Noted], altered: Altered) -> list[str]:
    """Give what would be run."""
    return [one.statement for one in plan(ledger, altered).restorations]


@pytest.mark.parametrize("name", ["touch", "odd, name: of. it", "a, b", 'with "quotes"'])
@pytest.mark.parametrize("others", [("x", "y"), ()])
def test_a_trigger_by_any_name(name: str, others: tuple[str, ...]) -> None:
    """It is found among the others of its entry, whatever its name holds."""
    ledger = noted((tables.TRIGGERS_DISABLED, f"credit.account: {', '.join((*others, name))}"))
    quoted = '"' + name.replace('"', '""') + '"'
    assert statements(ledger, Altered(triggers=((TABLE, name),))) == [
        f'alter table only "credit"."account" enable trigger {quoted}'
    ]


@pytest.mark.parametrize(
    "entry",
    [
        (tables.TRIGGERS_DISABLED, "credit.account: touched"),
        (tables.TRIGGERS_DISABLED, "credit.bank: touch"),
        (tables.RULE_DISABLED, "credit.account: touch"),
        ("tables copied", "credit.account: touch"),
    ],
    ids=["another trigger", "another table", "a rule", "another event"],
)
def test_what_the_ledger_does_not_say(entry: tuple[str, str]) -> None:
    """It was off before: it stays off, and somebody is told."""
    found = plan(noted(entry), Altered(triggers=((TABLE, "touch"),)))
    assert found.restorations == []
    (disabled,) = found.unexplained
    assert disabled.mend == 'alter table "credit"."account" enable trigger "touch";'


def test_what_fired_always() -> None:
    """It fires always again; where it was noted twice, the last word counts."""
    ledger = noted(
        (tables.TRIGGERS_DISABLED, "credit.account: touch"),
        (tables.ALWAYS_TRIGGERS_DISABLED, "credit.account: touch"),
        (tables.ALWAYS_RULE_DISABLED, "credit.account: kept"),
    )
    altered = Altered(triggers=((TABLE, "touch"),), rules=((TABLE, "kept"),))
    assert statements(ledger, altered) == [
        'alter table only "credit"."account" enable always trigger "touch"',
        'alter table "credit"."account" enable always rule "kept"',
    ]


def test_an_identity_column() -> None:
    """One that was ALWAYS is again; one that was BY DEFAULT all along is not touched."""
    ledger = noted((tables.IDENTITY_BY_DEFAULT, "credit.account: id"))
    altered = Altered(identities=((TABLE, "id"), (TABLE, "number")))
    assert statements(ledger, altered) == [
        'alter table "credit"."account" alter column "id" set generated always'
    ]


ACTS = (tables.KEY_WITHOUT_ACTIONS, f"credit.account: of bank {CASCADES}")
WAITS = (tables.KEY_DEFERRABLE, "credit.account: of bank")
DROP = 'alter table "credit"."account" drop constraint "of bank", add constraint "of bank" '
AT_ONCE = 'alter table "credit"."account" alter constraint "of bank" not deferrable'


@pytest.mark.parametrize(
    ("ledger", "as_it_is", "expected"),
    [
        ([ACTS], key(), [f"{DROP}{CASCADES} not valid"]),
        ([ACTS], key(partitioned=True), [DROP + CASCADES]),
        ([(ACTS[0], f"{ACTS[1]} NOT VALID")], key(), [f"{DROP}{CASCADES} NOT VALID"]),
        ([WAITS], key(), [AT_ONCE]),
        ([ACTS, WAITS], key(), [AT_ONCE]),
        ([WAITS, ACTS], key(), [f"{DROP}{CASCADES} not valid"]),
        ([ACTS], key(acts=True), []),
        ([WAITS], key(deferrable=False), []),
        ([], key(), []),
    ],
    ids=[
        "acted", "partitioned", "never valid", "not deferrable", "altered since", "acted at last",
        "acts already", "not deferrable already", "deferrable all along",
    ],
)  # fmt: skip
def test_a_foreign_key(ledger: list[tuple[str, str]], as_it_is: Key, expected: list[str]) -> None:
    """It becomes what it was, if it is still what we made of it; both its tables are locked."""
    found = plan(noted(*ledger), Altered(keys=(as_it_is,)))
    assert [one.statement for one in found.restorations] == expected
    assert found.locked == ([TABLE, OTHER] if expected else [])


def test_what_is_validated() -> None:
    """Foreign keys that were valid and are not yet; none that never was."""
    never = noted((ACTS[0], f"{ACTS[1]} NOT VALID"))
    assert list(to_validate(noted(ACTS), [key(validated=False)])) == [key(validated=False)]
    assert list(to_validate(noted(ACTS), [key()])) == []
    assert list(to_validate(never, [key(validated=False)])) == []
    assert list(to_validate([], [key(validated=False)])) == []

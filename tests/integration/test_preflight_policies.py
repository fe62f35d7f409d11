"""The preflight of what the settings say of single tables."""

from pathlib import Path

from tests.databases import run_sql
from tests.pair import Pair
from tests.preflight import BREAKS, WARNS, Expected, ask, init, matching, mend, the

SOFT = '[tables."credit.{}"]\ndeletes = "soft"\n'


def test_a_marker_that_is_missing_or_of_another_type(credit_pair: Pair) -> None:
    """The mend adds the column, or gives it the type; then nothing is found."""
    config = use(credit_pair, SOFT.format("providers"))
    expected: Expected = (BREAKS, "target", "credit.providers.deleted_at", "is missing")
    mend(credit_pair, the(ask(credit_pair, config), expected))
    assert matching(ask(credit_pair, config), expected[2], "") == []
    alter = "alter table credit.providers alter column deleted_at type boolean using null"
    run_sql(credit_pair.target_dsn, alter)
    expected = (BREAKS, "target", "credit.providers.deleted_at", "is boolean")
    mend(credit_pair, the(ask(credit_pair, config), expected))
    assert matching(ask(credit_pair, config), expected[2], "") == []


def test_a_marker_that_the_source_has_too(credit_pair: Pair) -> None:
    """A column of the application's own is not ours to set."""
    config = use(credit_pair, SOFT.format("offers") + 'deleted_at = "status"\n')
    expected: Expected = (BREAKS, "source", "credit.offers.status", "is a column of the source")
    assert "# in cdc.toml" in the(ask(credit_pair, config), expected).mend


def test_a_table_that_there_is_not(credit_pair: Pair) -> None:
    """A misspelt name would be a policy that does not hold."""
    config = use(credit_pair, SOFT.format("ofers"))
    the(ask(credit_pair, config), (BREAKS, "source", 'setting tables."credit.ofers"', "no table"))


def test_what_kept_rows_refer_to_has_to_be_kept(credit_pair: Pair) -> None:
    """Each foreign key to a table whose rows go; the mend drops it on the target."""
    config = use(credit_pair, '[tables."credit.offers"]\ndeletes = "ignore"\n')
    found = [f for f in ask(credit_pair, config) if "keeps deleted rows" in f.problem]
    assert found
    assert {f.severity for f in found} == {BREAKS}
    for finding in found:
        mend(credit_pair, finding)
    assert not [f for f in ask(credit_pair, config) if "keeps deleted rows" in f.problem]


def test_unique_values_of_kept_rows(credit_pair: Pair) -> None:
    """A value that is taken for ever is worth a warning, and an index on live rows alone."""
    for dsn in (credit_pair.source_dsn, credit_pair.target_dsn):
        run_sql(dsn, "create unique index one on credit.providers (created_at)")
    config = use(credit_pair, SOFT.format("providers"))
    mend(credit_pair, the(ask(credit_pair, config), MISSING_MARKER))
    expected: Expected = (WARNS, "target", "credit.providers", "unique index on (created_at)")
    mend(credit_pair, the(ask(credit_pair, config), expected))
    run_sql(credit_pair.target_dsn, "drop index credit.one")
    after = ask(credit_pair, config)
    assert matching(after, expected[2], expected[3]) == []
    assert matching(after, expected[2], "lacks one") == []
    init(credit_pair)


MISSING_MARKER: Expected = (BREAKS, "target", "credit.providers.deleted_at", "is missing")


def use(pair: Pair, text: str) -> dict[str, str]:
    """Write the pair's settings, and give the environment that names them."""
    Path(pair.settings).write_text(text)
    return {"CDC_CONFIG": str(pair.settings)}

"""Which columns tell rows apart, and when a relation has changed its shape."""

from dataclasses import replace

import pytest

from cdc.changes.relations import RelationCache, identify
from cdc.wire.messages import Relation
from tests.unit.shapes import relation

ACCOUNTS = relation(1, "accounts", ["id", "note"])
SHARES = relation(2, "shares", ["share", "account", "holder"], key=["account", "holder"])
FULL = relation(3, "schedules", ["account", "note", "number"], replica_identity="f")


def test_a_key_of_one_column_is_its_value() -> None:
    """The key of a row is the value itself: no tuple is made for the most frequent case."""
    table = identify(ACCOUNTS, {})
    assert table.key_of((b"1", b"x")) == b"1"
    assert table.key_columns == ("id",)
    assert table.key_values(b"1") == (b"1",)


def test_a_key_of_several_columns_is_a_tuple() -> None:
    """Columns of a key keep the relation's order, wherever they stand in it."""
    table = identify(SHARES, {})
    assert table.key_of((b"0.5", b"1", b"2")) == (b"1", b"2")
    assert table.key_columns == ("account", "holder")
    assert table.key_values((b"1", b"2")) == (b"1", b"2")


def test_under_full_the_key_comes_from_the_catalog() -> None:
    """REPLICA IDENTITY FULL flags every column, so that the primary key is asked for."""
    table = identify(FULL, {("credit", "schedules"): ("number", "account")})
    assert table.key_columns == ("number", "account")
    assert table.key_of((b"1", b"x", b"7")) == (b"7", b"1")


@pytest.mark.parametrize(
    "keyless",
    [
        pytest.param(relation(1, "t", ["a", "b"], key=[]), id="no column of an identity"),
        pytest.param(relation(1, "t", [], key=[]), id="no column at all"),
        pytest.param(relation(1, "u", ["a"], replica_identity="f"), id="full, no primary key"),
        pytest.param(relation(1, "t", ["a"], replica_identity="f"), id="full, key not published"),
    ],
)
def test_a_relation_without_a_key_is_refused(keyless: Relation) -> None:
    """Where nothing shorter than the whole row tells rows apart, the key is empty."""
    table = identify(keyless, {("credit", "t"): ("a", "id")})
    assert (table.key, table.key_columns) == ((), ())
    assert table.key_of((b"1",)) == ()


def test_a_relation_seen_for_the_first_time_is_no_change() -> None:
    """The first Relation message of a table changes no shape."""
    cache = RelationCache({})
    assert not cache.add(ACCOUNTS)
    assert not cache.add(SHARES)
    assert cache[1].name == ("credit", "accounts")


def test_a_relation_sent_again_as_it_was_changes_nothing() -> None:
    """The server repeats Relation messages; the table stays the very same object."""
    cache = RelationCache({})
    cache.add(ACCOUNTS)
    table = cache[1]
    assert not cache.add(replace(ACCOUNTS))
    assert cache[1] is table


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(relation(1, "accounts", ["id", "note", "more"]), id="column added"),
        pytest.param(relation(1, "accounts", ["id"]), id="column dropped"),
        pytest.param(relation(1, "accounts", ["id", "note"], key=["note"]), id="other key"),
        pytest.param(relation(1, "renamed", ["id", "note"]), id="renamed"),
        pytest.param(relation(9, "accounts", ["id", "note"]), id="dropped and created again"),
    ],
)
def test_a_relation_that_differs_is_a_change(changed: Relation) -> None:
    """Another shape under the same id, or another id under the same name."""
    cache = RelationCache({})
    cache.add(ACCOUNTS)
    assert cache.add(changed)
    assert cache[changed.relation_id].relation == changed


def test_an_id_that_no_relation_named_is_a_key_error() -> None:
    """The caller says what that means."""
    with pytest.raises(KeyError):
        RelationCache({})[1]

"""What is known of verifications: the last of each sort, and which tables differ by now."""

from cdc.lsn import Lsn
from cdc.verified import Verifications, Verified, differ, named


def found(lsn: int, *differing: str, only: tuple[str, ...] | None = None) -> Verified:
    """Give a result."""
    return Verified(Lsn(lsn), float(lsn), 3, 100, differing, only)


def known(*results: Verified) -> Verifications:
    """Give what is known after these."""
    verifications = Verifications()
    for result in results:
        verifications.count(result)
    return verifications


def test_nothing_is_known_at_first() -> None:
    """No result, and no table that differs."""
    assert known() == Verifications()
    assert Verifications().differing == set()


def test_a_table_differs_until_it_is_found_equal() -> None:
    """By a verification of it, or of all; one of other tables says nothing of it."""
    of_all = found(1, "a", "b")
    assert known(of_all, found(2, only=("b", "c"))).differing == {"a"}
    assert known(of_all, found(2, only=("c",))).differing == {"a", "b"}
    assert known(of_all, found(2, only=("a", "b"))).differing == set()
    assert known(of_all, found(2)).differing == set()
    assert known(of_all, found(2, "b", only=("b",))).differed_at == {"a": 1, "b": 2}


def test_the_last_of_each_sort() -> None:
    """The last one; the last of all tables; the last of all that found them equal."""
    equal, different, partial = found(1), found(2, "a"), found(3, only=("a",))
    after = known(equal, different, partial)
    assert (after.last, after.last_of_all, after.last_equal) == (partial, different, equal)


def test_each_is_counted_by_its_result() -> None:
    """Equal, different, none."""
    after = known(found(1), found(2, "a"), found(3, only=("b",)))
    after.count(None)
    assert (after.equal, after.different, after.failed) == (2, 1, 1)


def test_a_sentence_names_five_tables() -> None:
    """In their order, and counts the others."""
    assert named({"b", "a"}) == "a and b"
    assert named("edcba") == "a, b, c, d and e"
    assert named("gfedcba") == "7 tables: a, b, c, d, e and 2 more"


def test_a_sentence_says_where_tables_differ() -> None:
    """Where that was seen last."""
    assert differ({"a": Lsn(16)}) == "a differs at 0/10"
    assert differ({"a": Lsn(32), "b": Lsn(16)}) == "a and b differ at 0/20"

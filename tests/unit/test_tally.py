"""What a batch is counted as: what came, and what is left. By example; `test_fold` recounts."""

from cdc.counts import Counts, Operations, Tally
from cdc.wire.messages import Message, Truncate
from tests.unit.test_batch import delete, fold, insert, rekey, update

ACCOUNT = ("credit", "accounts")


def test_a_row_that_changes_twice_is_written_once() -> None:
    """Two changes came, one insert is left."""
    counted = tallied(insert(b"1"), update(b"1", b"newer"))
    assert counted[ACCOUNT] == Tally(Operations(insert=1, update=1), Operations(insert=1), filled=1)


def test_a_row_that_comes_and_goes_is_deleted() -> None:
    """The target may have had it."""
    counted = tallied(insert(b"1"), delete(b"1"))
    assert counted[ACCOUNT] == Tally(Operations(insert=1, delete=1), Operations(delete=1))


def test_a_key_change_counts_once() -> None:
    """It came as an update and is one."""
    counted = tallied(rekey(b"1", b"2"))
    assert counted[ACCOUNT] == Tally(Operations(update=1), Operations(update=1))


def test_tables_emptied_together_count_each() -> None:
    """One Truncate of two tables is one of each."""
    counted = tallied(Truncate((1, 2), False, False))
    one = Tally(Operations(truncate=1), Operations(truncate=1))
    assert counted == {ACCOUNT: one, ("credit", "shares"): one}


def test_counts_of_a_batch_that_the_target_took_as_a_set() -> None:
    """What was left is applied, the rest folded away."""
    counts = Counts()
    batch = fold(insert(b"1"), update(b"1", b"newer"), insert(b"2"))
    counts.receive(batch.tallies)
    counts.apply(batch.tallies, 7, 1.5, replayed=False)
    table = counts.tables[ACCOUNT]
    assert (table.received.total, table.applied.total, table.folded) == (3, 2, 1)
    assert (counts.changes, counts.batches, counts.replays, counts.fills) == (3, 1, 0, 1)
    assert (table.commit_time, counts.applied_at_s) == (7, 1.5)


def test_counts_of_a_batch_that_was_replayed() -> None:
    """Each change was applied by itself: none was folded away."""
    counts = Counts()
    batch = fold(insert(b"1"), update(b"1", b"newer"))
    counts.receive(batch.tallies)
    counts.apply(batch.tallies, 7, 1.5, replayed=True)
    table = counts.tables[ACCOUNT]
    assert (table.applied, table.folded) == (Operations(insert=1, update=1), 0)
    assert (counts.replays, counts.fills) == (1, 0)


def test_failures_by_class() -> None:
    """A code counts for its class; what has none was the connection."""
    counts = Counts()
    for code in ("40001", "40P01", "53300", None):
        counts.fail(code)
    assert dict(counts.failures) == {"40": 2, "53": 1, "connection": 1}


def tallied(*messages: Message) -> dict[tuple[str, str], Tally]:
    """Give the tallies of one batch."""
    return dict(fold(*messages).tallies)

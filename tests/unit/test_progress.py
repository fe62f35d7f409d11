"""What may be confirmed to the source, and when."""

import pytest

from cdc.lsn import Lsn
from cdc.progress import Progress


def progress() -> Progress:
    """Return the progress of a stream that begins at a checkpoint of 100."""
    return Progress(Lsn(100), Lsn(100), Lsn(100))


def test_what_came_is_not_confirmed_while_it_is_pending() -> None:
    """While changes are on their way to the target, the checkpoint is all that may be confirmed."""
    at = progress()
    at.pending = True
    at.receive(Lsn(200))
    assert at.confirmable == 100


def test_what_the_target_committed_is_confirmed() -> None:
    """A committed checkpoint may be confirmed, though more is pending."""
    at = progress()
    at.pending = True
    at.receive(Lsn(200))
    at.apply(Lsn(150))
    assert at.confirmable == 150


def test_all_that_came_is_confirmed_when_nothing_is_pending() -> None:
    """Other WAL than ours moves the slot too, or the source would keep it for ever."""
    at = progress()
    at.receive(Lsn(200))
    assert at.confirmable == 200


def test_a_keepalive_from_the_past_moves_nothing_back() -> None:
    """Positions only grow, in whatever order they are heard of."""
    at = progress()
    at.receive(Lsn(200))
    at.receive(Lsn(150))
    at.confirm(Lsn(200))
    at.confirm(Lsn(150))
    assert (at.received, at.confirmed, at.confirmable) == (200, 200, 200)


def test_an_applied_transaction_has_been_received() -> None:
    """A checkpoint beyond what was heard of is heard of by that."""
    at = progress()
    at.apply(Lsn(300))
    assert (at.received, at.applied, at.confirmable) == (300, 300, 300)


def test_the_checkpoint_never_goes_back() -> None:
    """A checkpoint that goes back is a bug of ours, and stops the process."""
    at = progress()
    with pytest.raises(AssertionError, match="never goes back"):
        at.apply(Lsn(99))


def test_what_has_not_come_is_never_confirmed() -> None:
    """Confirming it is a bug of ours, and stops the process."""
    at = progress()
    with pytest.raises(AssertionError, match="never confirm"):
        at.confirm(Lsn(101))

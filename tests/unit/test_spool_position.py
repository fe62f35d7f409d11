"""The stream goes on where the spool holds what the source has forgotten, and nowhere else."""

import pytest

from cdc.errors import PositionLost
from cdc.lsn import Lsn, format_lsn
from cdc.sync.position import Held, IdlePair, check_position, check_spool, spool_from
from tests.unit.test_position import checkpoint, pair, slot


def held(after: int, upto: int) -> Held:
    """The spool: all that was committed between the two is in it, or applied."""
    return Held(Lsn(after), Lsn(upto))


@pytest.mark.parametrize(
    ("at", "confirmed", "idle", "spool"),
    [
        pytest.param(200, 300, None, held(200, 300), id="all since the checkpoint"),
        pytest.param(250, 300, None, held(200, 300), id="a checkpoint inside of it"),
        pytest.param(300, 300, None, held(200, 300), id="a checkpoint at its end"),
        pytest.param(200, 250, None, held(200, 300), id="written, not yet confirmed"),
        pytest.param(200, 400, pair(200, 300), held(300, 400), id="idle first, then the spool"),
        pytest.param(200, 400, pair(200, 300), held(250, 400), id="the two overlap"),
        pytest.param(500, 400, None, held(200, 300), id="applied beyond both"),
    ],
)
def test_the_stream_goes_on(at: int, confirmed: int, idle: IdlePair | None, spool: Held) -> None:
    """What the source has forgotten is on the target, was nothing, or is in the spool."""
    check_position(checkpoint(at), slot(confirmed), idle, spool)
    check_spool(checkpoint(at), idle, spool)


@pytest.mark.parametrize(
    ("at", "confirmed", "idle", "spool"),
    [
        pytest.param(199, 300, None, held(200, 300), id="the target was restored to before it"),
        pytest.param(200, 301, None, held(200, 300), id="a single byte beyond it"),
        pytest.param(100, 400, pair(200, 300), held(300, 400), id="restored to before the pair"),
        pytest.param(200, 400, pair(200, 299), held(300, 400), id="a gap between pair and spool"),
        pytest.param(301, 400, None, held(200, 300), id="a spool of another time"),
    ],
)
def test_a_gap_is_found(at: int, confirmed: int, idle: IdlePair | None, spool: Held) -> None:
    """The source has forgotten what neither target nor spool may have; the error says the range."""
    with pytest.raises(PositionLost) as caught:
        check_position(checkpoint(at), slot(confirmed), idle, spool)
    assert format_lsn(at) in caught.value.message
    assert format_lsn(confirmed) in caught.value.message


@pytest.mark.parametrize(
    ("at", "idle"),
    [(199, None), (100, pair(150, 199)), (149, pair(150, 300))],
)
def test_a_target_that_lacks_what_was_before_the_spool(at: int, idle: IdlePair | None) -> None:
    """Found before anything is replayed."""
    with pytest.raises(PositionLost) as caught:
        check_spool(checkpoint(at), idle, held(200, 300))
    assert format_lsn(at) in caught.value.message
    assert format_lsn(200) in caught.value.message


# Where writing begins


def test_a_spool_with_changes_goes_on() -> None:
    """It begins where it ended, whatever is known of the target."""
    spool = held(200, 300)
    for known in (None, checkpoint(250)):
        assert spool_from(known, slot(300), None, spool, empty=False) == spool
        assert spool_from(known, slot(250), None, spool, empty=False) == spool


def test_a_spool_with_changes_that_ends_before_the_slot_is_refused() -> None:
    """What lies between is nowhere."""
    with pytest.raises(PositionLost, match=r"0/12D.*0/12C"):
        spool_from(None, slot(301), None, held(200, 300), empty=False)


@pytest.mark.parametrize(
    ("at", "confirmed", "idle", "expected"),
    [
        pytest.param(500, 400, None, held(500, 500), id="applied, not yet confirmed"),
        pytest.param(400, 400, None, held(400, 400), id="confirmed what was applied"),
        pytest.param(400, 600, pair(400, 600), held(400, 600), id="idle since the checkpoint"),
        pytest.param(250, 300, None, held(250, 300), id="an old spool, emptied"),
    ],
)
def test_an_empty_spool_begins_at_the_checkpoint(
    at: int, confirmed: int, idle: IdlePair | None, expected: Held
) -> None:
    """Or where the slot stands, if nothing was published between the two."""
    assert spool_from(checkpoint(at), slot(confirmed), idle, held(200, 300), empty=True) == expected


def test_an_empty_spool_does_not_begin_over_a_gap() -> None:
    """A checkpoint that is known and does not fit is refused before anything is written."""
    with pytest.raises(PositionLost):
        spool_from(checkpoint(400), slot(500), pair(400, 499), held(200, 300), empty=True)


@pytest.mark.parametrize(
    ("confirmed", "expected"),
    [
        pytest.param(250, held(200, 300), id="inside of what it stands for"),
        pytest.param(300, held(200, 300), id="at its end"),
        pytest.param(500, held(500, 500), id="streamed straight since"),
        pytest.param(150, held(150, 150), id="before it: not of this slot"),
    ],
)
def test_an_empty_spool_begins_without_the_checkpoint(confirmed: int, expected: Held) -> None:
    """Where the target is away, the slot alone says from where on everything still comes."""
    assert spool_from(None, slot(confirmed), None, held(200, 300), empty=True) == expected

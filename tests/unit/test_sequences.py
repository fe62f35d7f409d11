"""Where sequences go on after a failover: past what rows show, past the source, never back."""

from dataclasses import replace

import pytest

from cdc.assure.failover.sequences import UNSEEN, Sequence, move, used_up

STANDS = Sequence(
    name=("credit", "s"),
    owned=True,
    increment=1,
    low=1,
    high=2**63 - 1,
    next=1,
    columns=("credit.t.id",),
    reached=None,
)
DOWN = replace(STANDS, increment=-1, low=-(2**63), high=-1, next=-1)


@pytest.mark.parametrize(
    ("sequence", "source_next", "restart"),
    [
        (replace(STANDS, reached=20), 21, 21),
        (replace(STANDS, reached=20), 501, 501),
        (replace(STANDS, reached=20), 7, 21),
        (replace(STANDS, reached=20), None, 21 + UNSEEN),
        (replace(STANDS, reached=20, increment=10), None, 30 + 10 * UNSEEN),
        (replace(STANDS, reached=20, next=21), None, None),
        (replace(STANDS, reached=20, next=900), None, None),
        (replace(STANDS, next=5), 3, None),
        (replace(STANDS), 8, 8),
        (STANDS, None, None),
        (replace(STANDS, reached=100, high=32_767), None, 101 + 326),
        (replace(STANDS, reached=32_760, high=32_767), None, 32_761),
        (replace(STANDS, reached=32_767, high=32_767), None, None),
        (replace(STANDS, reached=-5), None, None),
        (replace(DOWN, reached=-20), -21, -21),
        (replace(DOWN, reached=-20), None, -21 - UNSEEN),
        (replace(DOWN, reached=-20), -9, -21),
        (replace(DOWN, reached=-20, next=-900), None, None),
    ],
)
def test_where_it_goes_on(sequence: Sequence, source_next: int | None, restart: int | None) -> None:
    """Behind the furthest of rows, source and itself; with a distance if the source is silent."""
    moved = move(sequence, source_next)
    assert (None if moved is None else moved.restart) == restart


def test_one_that_is_used_up() -> None:
    """The next number would lie beyond its end."""
    assert used_up(replace(STANDS, reached=32_767, high=32_767))
    assert used_up(replace(DOWN, reached=-128, low=-128))
    assert not used_up(replace(STANDS, reached=32_766, high=32_767))
    assert not used_up(STANDS)

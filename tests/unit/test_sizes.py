"""Bytes, seconds and shares as people read them."""

import pytest

from cdc.sizes import readable_bytes, readable_seconds, readable_share


@pytest.mark.parametrize(
    ("size", "shown"),
    [(None, "unknown"), (0, "0 B"), (1023, "1023 B"), (1024, "1 kB"), (3 << 40, "3 TB")],
)
def test_bytes(size: int | None, shown: str) -> None:
    """The unit is the largest of which there is one."""
    assert readable_bytes(size) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "unknown"),
        (0.04, "0.0 s"),
        (59.9, "59.9 s"),
        (600, "10 min"),
        (5400, "1.5 h"),
        (7 * 86400, "7 days"),
    ],
)
def test_seconds(seconds: float | None, shown: str) -> None:
    """Long times are not counted in seconds."""
    assert readable_seconds(seconds) == shown


@pytest.mark.parametrize(
    ("used", "left", "shown"),
    [
        (5, None, "no limit"),
        (None, 1024, "1 kB left"),
        (1024, 3072, "3 kB left, 25% used"),
        (0, 0, "0 B left, 100% used"),
        (1024, -5, "0 B left, 100% used"),
    ],
)
def test_share(used: int | None, left: int | None, shown: str) -> None:
    """What is left, beside what is used; a budget that is overdrawn has nothing left."""
    assert readable_share(used, left) == shown

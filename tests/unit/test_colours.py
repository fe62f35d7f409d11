"""What is shown as good, fair and bad."""

from dataclasses import replace

import pytest

from cdc.assure.lag import Lag
from cdc.cli.colours import BAD, FAIR, GOOD, of_budget, of_lag

MB = 1 << 20

LAG = Lag("s", True, "reserved", "0/9", "0/1", None, MB, 0.5, MB, None)  # its order


@pytest.mark.parametrize(
    ("lag", "colour"),
    [
        (LAG, GOOD),
        (replace(LAG, lag_bytes=0, active=False), GOOD),
        (replace(LAG, active=False), BAD),
        (replace(LAG, wal_status="lost"), BAD),
        (replace(LAG, lag_seconds=11), FAIR),
        (replace(LAG, lag_seconds=None), GOOD),
        (replace(LAG, lag_seconds=None, lag_bytes=17 * MB), FAIR),
        (replace(LAG, lag_seconds=None, lag_bytes=None), FAIR),
    ],
)
def test_lag(lag: Lag, colour: str) -> None:
    """By seconds; where our role may not know them by bytes; bad where nobody streams."""
    assert of_lag(lag) == colour


@pytest.mark.parametrize(
    ("lag", "colour"),
    [
        (LAG, GOOD),
        (replace(LAG, safe_wal_bytes=2 * MB), GOOD),
        (replace(LAG, safe_wal_bytes=MB), FAIR),
        (replace(LAG, safe_wal_bytes=0), BAD),
        (replace(LAG, wal_status="lost"), BAD),
    ],
)
def test_budget(lag: Lag, colour: str) -> None:
    """At the shares at which the daemon warns and alarms."""
    assert of_budget(lag) == colour

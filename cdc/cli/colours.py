"""What is good, what wants a look and what wants it now: green, yellow, red.

For people at a terminal, so the limits are rough ones; what a script asks for has limits of its own
(`cdc lag --max-seconds`).
"""

from cdc.assure.lag import Lag
from cdc.budget import Level, WalBudget
from cdc.lsn import parse_lsn

GOOD, FAIR, BAD = "green", "yellow", "red"

# A daemon that keeps up confirms within a second.
_LATE_S = 10.0

# Where our role may not know for how long it is behind: a segment of WAL.
_LATE_BYTES = 16 << 20

_BY_LEVEL = {Level.CALM: GOOD, Level.WARNING: FAIR, Level.ALARM: BAD}


def of_lag(lag: Lag) -> str:
    """Judge how far the copy is behind."""
    if lag.lag_bytes == 0:
        return GOOD
    if not lag.active or lag.wal_status == "lost":
        return BAD
    if lag.lag_seconds is not None:
        return FAIR if lag.lag_seconds > _LATE_S else GOOD
    return FAIR if lag.lag_bytes is None or lag.lag_bytes > _LATE_BYTES else GOOD


def of_budget(lag: Lag) -> str:
    """Judge how much of the WAL that the source keeps for the slot is used up."""
    if lag.wal_status == "lost":
        return BAD
    budget = WalBudget()
    budget.look(0.0, parse_lsn(lag.source_lsn), lag.retained_wal_bytes, lag.safe_wal_bytes)
    return _BY_LEVEL[budget.level]

"""Bytes, seconds and shares as people read them."""

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_KILO = 1024

_MINUTE_S = 60
_HOUR_S = 3600
_DAY_S = 86400


def readable_bytes(size: int | None) -> str:
    """Return bytes with a unit, `unknown` for None."""
    if size is None:
        return "unknown"
    value, unit = float(size), "B"
    for unit in _UNITS:  # noqa: B007  # the unit that the loop stops at is the result
        if value < _KILO:
            break
        value /= _KILO
    return f"{value:.0f} {unit}"


def readable_seconds(seconds: float | None) -> str:
    """Return a time with a unit, `unknown` for None."""
    if seconds is None:
        return "unknown"
    if seconds < _MINUTE_S:
        return f"{seconds:.1f} s"
    if seconds < _HOUR_S:
        return f"{seconds / _MINUTE_S:.0f} min"
    if seconds < 2 * _DAY_S:
        return f"{seconds / _HOUR_S:.1f} h"
    return f"{seconds / _DAY_S:.0f} days"


def readable_share(used: int | None, left: int | None) -> str:
    """Return what is left, and which share of all is used up; None left: there is no limit."""
    if left is None:
        return "no limit"
    left = max(left, 0)
    if used is None:
        return f"{readable_bytes(left)} left"
    share = used / (used + left) if left else 1.0
    return f"{readable_bytes(left)} left, {share:.0%} used"

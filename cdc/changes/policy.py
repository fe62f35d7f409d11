"""What the target keeps of a table's deletes and truncates, where the operator wants it to: pure.

A policy is carried out here, before anything is folded, by turning messages into others:

    soft      a Delete is an Update of one column more, the marker, which no source has: it holds
              when the source committed the delete. Each Insert and Update sets it to NULL again
    ignore    a Delete is none at all

So the fold need not know of policies but in one thing: what the source has deleted may still be on
the target (`retains`), so that no key is known to be new there.
"""

from dataclasses import dataclass
from typing import Final, Literal

from cdc.wire.messages import UNCHANGED, Column, Delete, Insert, Update

_TIMESTAMPTZ: Final = 1184

_DAY_US = 86_400_000_000
_SECOND_US = 1_000_000
_JULIAN_DAY_OF_2000 = 2_451_545


@dataclass(slots=True, frozen=True)
class Policy:
    """What a table's deletes and truncates do on the target."""

    deletes: Literal["replicate", "soft", "ignore"] = "replicate"
    truncate: Literal["replicate", "ignore", "halt"] = "replicate"
    marker: str = "deleted_at"
    """Name of the column that a soft delete sets: a timestamp with time zone of the target."""
    skips: bool = False
    """Nothing of it is for the target: its copy has not begun (`changes.copies`)."""

    @property
    def retains(self) -> bool:
        """Rows that the source has deleted may still be on the target."""
        return self.deletes != "replicate" or self.skips

    @property
    def added(self) -> tuple[Column, ...]:
        """The columns that rows have on the target beyond those of the source."""
        if self.deletes != "soft":
            return ()
        return (Column(self.marker, is_key=False, type_oid=_TIMESTAMPTZ, type_modifier=-1),)


REPLICATE: Final = Policy()
SKIP: Final = Policy(truncate="ignore", skips=True)


def retain(
    message: Insert | Update | Delete, policy: Policy, key: tuple[int, ...], commit_time: int
) -> Insert | Update | None:
    """Return what a change is to a table that retains deleted rows; None: nothing.

    `key` has the positions of the columns whose values a Delete is sure to bring, `commit_time` is
    the transaction's (µs since 2000-01-01).
    """
    if policy.skips:
        return None
    match message:
        case Delete() if policy.deletes == "ignore":
            return None
        case Delete(relation_id, old, is_full):
            kept = old if is_full else [v if n in key else UNCHANGED for n, v in enumerate(old)]
            marked = (*kept, _timestamp(commit_time))
            return Update(relation_id, (*old, None), is_full, marked)
        case _ if policy.deletes == "ignore":
            return message
        case Insert(relation_id, new):
            return Insert(relation_id, (*new, None))
        case Update(relation_id, before, is_full, new):
            before = None if before is None else (*before, None)
            return Update(relation_id, before, is_full, (*new, None))


def _timestamp(microseconds: int) -> bytes:
    """Return a time as PostgreSQL reads it, its day as a Julian date: no calendar is needed."""
    day, rest = divmod(microseconds, _DAY_US)
    seconds, fraction = divmod(rest, _SECOND_US)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    julian = _JULIAN_DAY_OF_2000 + day
    return b"J%d %02d:%02d:%02d.%06d+00" % (julian, hour, minute, second, fraction)

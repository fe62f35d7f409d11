"""What verifications have found: whether both sides held the same rows, where, and when. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from cdc.lsn import Lsn, format_lsn

# A sentence names so many tables at most, and counts the others.
_NAMED = 5


def named(tables: Collection[str]) -> str:
    """Return names of tables as a sentence has them."""
    names = sorted(tables)
    if len(names) > _NAMED:
        more = len(names) - _NAMED
        return f"{len(names):,} tables: {', '.join(names[:_NAMED])} and {more:,} more"
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def differ(differed_at: Mapping[str, Lsn]) -> str:
    """Return a sentence about tables that differ, and the place where they did last."""
    verb = "differs" if len(differed_at) == 1 else "differ"
    return f"{named(differed_at)} {verb} at {format_lsn(max(differed_at.values()))}"


@dataclass(slots=True, frozen=True)
class Verified:
    """The result of one verification."""

    lsn: Lsn
    """Both sides were compared as of this place of the stream."""
    at_unix_s: float
    """When it was finished, by the target's clock."""
    tables: int
    rows: int
    """Of the source."""
    differing: tuple[str, ...] = ()
    """Tables whose rows differ."""
    only: tuple[str, ...] | None = None
    """The tables that were compared, where it was not all."""

    @property
    def equal(self) -> bool:
        """Both sides held the same rows."""
        return not self.differing


@dataclass(slots=True)
class Verifications:
    """What a daemon knows of them."""

    last: Verified | None = None
    last_of_all: Verified | None = None
    """The last one of all tables."""
    last_equal: Verified | None = None
    """The last one of all tables that found none to differ."""
    differed_at: dict[str, Lsn] = field(default_factory=dict)
    """Tables that differed when they were compared last, and where that was."""
    attended: int | None = None
    """Number of the one that is under way, or has ended and is not counted yet."""
    equal: int = 0
    different: int = 0
    failed: int = 0
    """Came to no result. All three since this process has started."""

    @property
    def differing(self) -> set[str]:
        """Tables that differed when they were compared last."""
        return set(self.differed_at)

    def remember(self, found: Verified) -> None:
        """Take note of a result; one after the other, in their order."""
        self.last, still = found, {}
        if found.only is not None:
            still = {name: at for name, at in self.differed_at.items() if name not in found.only}
        else:
            self.last_of_all = found
            self.last_equal = found if found.equal else self.last_equal
        # Anew, and not changed: whoever reports it may do so in another thread.
        self.differed_at = still | dict.fromkeys(found.differing, found.lsn)

    def count(self, found: Verified | None) -> None:
        """Take note of a verification that has ended now, with or without a result."""
        if found is None:
            self.failed += 1
            return
        self.remember(found)
        if found.equal:
            self.equal += 1
        else:
            self.different += 1

"""What verifications have found: whether both sides held the same rows, where, and when. Pure."""

from dataclasses import dataclass, field

from cdc.lsn import Lsn


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
    last_equal: Verified | None = None
    """The last one of all tables that found none to differ."""
    differing: set[str] = field(default_factory=set)
    """Tables that differed when they were compared last."""
    equal: int = 0
    different: int = 0
    failed: int = 0
    """Came to no result. All three since this process has started."""

    def remember(self, found: Verified) -> None:
        """Take note of a result; one after the other, in their order."""
        self.last = found
        self.differing -= self.differing if found.only is None else set(found.only)
        self.differing |= set(found.differing)
        if found.only is None and found.equal:
            self.last_equal = found

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

"""What stands in the way of a failover, or would be lost by it: findings, each with its mend.

As those of `cdc check`: a mend is text to copy and paste, and no finding holds a row's value.
"""

from dataclasses import dataclass
from enum import Enum

from cdc.assure.preflight.findings import Side


class Severity(Enum):
    """What it means for a promotion."""

    BREAKS = "breaks"
    """It cannot be done."""
    LOSES = "loses"
    """It would lose something that could still be had; `--force` accepts that."""
    WARNS = "warns"
    """To be known, and no reason to wait."""


@dataclass(slots=True, frozen=True)
class Finding:
    """Something that is not as it should be."""

    severity: Severity
    side: Side
    subject: str
    problem: str
    """A clause that goes on from the subject."""
    mend: str

    def __str__(self) -> str:
        return f"{self.side} {self.subject}: {self.problem}"


def breaks(side: Side, subject: str, problem: str, mend: str) -> Finding:
    """Return a finding because of which there can be no promotion."""
    return Finding(Severity.BREAKS, side, subject, problem, mend)


def loses(side: Side, subject: str, problem: str, mend: str) -> Finding:
    """Return a finding by which a promotion would lose something."""
    return Finding(Severity.LOSES, side, subject, problem, mend)


def warns(side: Side, subject: str, problem: str, mend: str) -> Finding:
    """Return a finding that an operator should know of."""
    return Finding(Severity.WARNS, side, subject, problem, mend)

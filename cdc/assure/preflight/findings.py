"""What a check says: a finding, with the statement or setting that mends it.

A mend is text to copy and paste: SQL, one statement a line, each ended by `;`, remarks behind `--`;
or `export CDC_…=…`, or a shell command. Where it stands for a new copy of everything, it is one
statement (`new_copy`). Neither problem nor mend ever holds a password or a row's value.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Literal, TypeAlias

from cdc.postgres.names import literal


class Severity(Enum):
    """Whether the copy would fail, or lose something, because of it."""

    BREAKS = "breaks"
    WARNS = "warns"


Side: TypeAlias = Literal["source", "target", "both"]


@dataclass(slots=True, frozen=True)
class Finding:
    """Something that is not as it has to be."""

    severity: Severity
    side: Side
    """Where it is; the mend is for there, unless it says otherwise."""
    subject: str
    """What it is about, such as `credit.offers` or `slot cdc_credit`."""
    problem: str
    """A clause that goes on from the subject."""
    mend: str


def breaks(side: Side, subject: str, problem: str, mend: str) -> Finding:
    """Return a finding because of which the copy would fail or lose something."""
    return Finding(Severity.BREAKS, side, subject, problem, mend)


def warns(side: Side, subject: str, problem: str, mend: str) -> Finding:
    """Return a finding that an operator may have reasons to live with."""
    return Finding(Severity.WARNS, side, subject, problem, mend)


def new_copy(slot: str) -> str:
    """Return the statement after which `cdc init` takes the copy for one that was cut off."""
    return (
        f"update cdc.checkpoint set lsn = null where slot = {literal(slot)};"
        "  -- on the target; `cdc init` then makes a new slot and copies everything again"
    )

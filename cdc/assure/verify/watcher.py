"""Who hears how far a verification is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cdc.assure.verify.comparison import ComparedTable, Report


@dataclass(slots=True, frozen=True)
class Watcher:
    """What is called meanwhile."""

    wait_for: Callable[[str], None]
    """With what is waited for, now and then."""
    begin: Callable[[Sequence[ComparedTable]], None]
    """With what will be compared."""
    report: Report

"""What every comparison is given: the servers, how much of it, and where to tell of it."""

from dataclasses import dataclass

from cdc.demo.display import Display
from tests.bench.arena import Sides


@dataclass(frozen=True, slots=True)
class Bench:
    """One run of the bench."""

    sides: Sides
    display: Display
    rounds: int = 3
    """Turns of each contestant; each round begins with another one."""
    scale: float = 1.0
    """Of all numbers of rows and seconds; 0.05 for a quick look."""

    def scaled(self, count: int) -> int:
        """Give so many at this scale, at least one."""
        return max(1, round(count * self.scale))

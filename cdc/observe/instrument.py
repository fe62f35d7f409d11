"""What a metric is: a name, a kind, a unit, what it says, and where that is read. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from cdc.observe.readings import Read


class Kind(StrEnum):
    """What may happen to a number."""

    COUNTER = "counter"
    """It grows, from nought at the start of the process."""
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(slots=True, frozen=True)
class Instrument:
    """One metric."""

    name: str
    kind: Kind
    unit: str
    """UCUM."""
    description: str
    read: Read | None = None
    """None: recorded as it happens."""
    attributes: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    """Upper bounds."""


def gauge(name: str, unit: str, description: str, read: Read, *attributes: str) -> Instrument:
    """Return what may go up and down."""
    return Instrument(f"cdc.{name}", Kind.GAUGE, unit, description, read, attributes)


def counter(name: str, unit: str, description: str, read: Read, *attributes: str) -> Instrument:
    """Return what only grows."""
    return Instrument(f"cdc.{name}", Kind.COUNTER, unit, description, read, attributes)


def histogram(name: str, unit: str, description: str, buckets: tuple[float, ...]) -> Instrument:
    """Return what is recorded as it happens."""
    return Instrument(f"cdc.{name}", Kind.HISTOGRAM, unit, description, buckets=buckets)

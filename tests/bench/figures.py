"""What was measured: the records of the JSON document, of which report and plot are made."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(slots=True)
class Machine:
    """Where it was measured."""

    cpus: int
    memory_bytes: int
    python: str
    source: str
    """The source server's version."""
    target: str
    revision: str
    """The commit that was measured."""
    began_at: str


@dataclass(slots=True)
class Spent:
    """What the processes of one part needed, all of them together."""

    part: str
    """Of `drain.PARTS`."""
    cpu_s: float
    """From the slot's becoming active on."""
    peak_rss_bytes: int
    """Of a server's process, what it touched of the shared buffers is in it."""


@dataclass(slots=True)
class Drain:
    """One contestant's way through one backlog."""

    workload: str
    contestant: str
    round: int
    changes: int
    wal_bytes: int
    seconds: float
    """From the slot's becoming active until all is visible on the target."""
    process_seconds: float
    """From the start of the contestant until it has ended, or is told to."""
    spent: list[Spent] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Changes per second."""
        return self.changes / self.seconds


@dataclass(slots=True)
class Latency:
    """From the commit on the source until the row is visible on the target, in milliseconds."""

    contestant: str
    rate: int
    """Transactions per second that were asked for."""
    round: int
    committed: int
    seconds: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


@dataclass(slots=True)
class Copy:
    """An initial copy of rows that were there before."""

    case: str
    contestant: str
    round: int
    tables: int
    rows: int
    seconds: float


@dataclass(slots=True)
class Document:
    """All that one run has measured."""

    machine: Machine
    options: dict[str, str]
    drains: list[Drain] = field(default_factory=list)
    wan: list[Drain] = field(default_factory=list)
    latency: list[Latency] = field(default_factory=list)
    growth: list[Drain] = field(default_factory=list)
    copies: list[Copy] = field(default_factory=list)
    others: dict[str, list[dict[str, str | float]]] = field(default_factory=dict)
    """Of `large`, `value` and `asked`, which compare nothing."""

    def encode(self) -> bytes:
        """Write it as JSON, for people too."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"

    @classmethod
    def read(cls, files: Sequence[Path]) -> "Document":
        """Read what several runs have measured as one; the first tells of the machine."""
        first, *others = (cls.decode(file.read_bytes()) for file in files)
        for other in others:
            first.drains += other.drains
            first.wan += other.wan
            first.growth += other.growth
            first.latency += other.latency
            first.copies += other.copies
            first.others |= other.others
        return first

    @classmethod
    def decode(cls, text: bytes) -> "Document":
        """Read what `encode` wrote."""
        return msgspec.json.decode(text, type=cls)


def figures(one: "DataclassInstance") -> dict[str, str | float]:
    """Give the fields of figures that compare nothing."""
    return asdict(one)

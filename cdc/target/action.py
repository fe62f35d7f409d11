"""What is run on the target: statements with what each has to meet, and COPYs. None is run here."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from cdc.wire.messages import Row


@dataclass(slots=True, frozen=True)
class Execute:
    """A statement with its values; `rows` is how many it has to meet (None: any number)."""

    sql: bytes
    parameters: Row = ()
    rows: int | None = None
    otherwise: "Execute | None" = None
    """What to run where it meets no row; None: that is an error."""
    before: "Execute | None" = None
    """What has to be run first."""
    at_most: bool = False
    """`rows` is how many it may meet: fewer will do, none too."""
    inlined: bytes | None = None
    """The same with its values in the text, where it has values and that is worth while."""

    @property
    def text(self) -> bytes | None:
        """The statement without parameters, None where it needs them."""
        return self.inlined if self.parameters else self.sql

    def expecting(self, text: bytes) -> bytes:
        """Return its text, such that it fails unless it meets as many rows as it has to."""
        if self.rows is None:
            return text
        met = b"greatest(count(*), %d)" % self.rows if self.at_most else b"count(*)"
        return b"with w as (%b returning 1) select cdc.expect(%b, %d) from w" % (
            text,
            met,
            self.rows,
        )


@dataclass(slots=True, frozen=True)
class Copy:
    """Lines for a COPY … FROM STDIN; made as they are sent, so that the target works meanwhile."""

    sql: bytes
    lines: Iterable[bytes]


Action: TypeAlias = Execute | Copy

CHECK = Execute(b"set constraints all immediate")
DEFER = Execute(b"set constraints all deferred")

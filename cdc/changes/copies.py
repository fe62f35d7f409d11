"""Tables whose copy is not complete yet, and what that means for their changes: pure.

A table is copied in chunks while the stream runs. Each chunk shows the source as of one LSN, and is
written when the stream stands at that very LSN. So until the copy of a table has

    not begun       its changes are for nobody: the chunks will show what they have done
    come in part    they are applied where their rows have come; others may be missing
    come whole      they are applied as they always are

Rows go to the table itself if it is new and empty, else to a shadow beside it, which takes its
place when all is there: who reads the table sees whole states only. A table that the stream was
applied to without a gap is complete, whatever somebody did to its rows; it is mended in place.

A table that nobody has heard of is one that is to be copied: it came into the schema.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias

QualifiedName: TypeAlias = tuple[str, str]


class Stage(Enum):
    """How far the copy of a table has come."""

    NOT_BEGUN = auto()
    IN_PART = auto()
    WHOLE = auto()


@dataclass(slots=True)
class TableCopy:
    """The copy of a table that is under way."""

    name: QualifiedName
    destination: QualifiedName
    """Where its rows go: the table, or its shadow."""
    stage: Stage = Stage.NOT_BEGUN


@dataclass(slots=True, frozen=True)
class Range:
    """Keys from one (excluded) to another (included), as texts; None: without a bound."""

    lower: tuple[str, ...] | None = None
    upper: tuple[str, ...] | None = None


class Copies:
    """The copies under way; a mirror of what the target says (`target.copies`)."""

    def __init__(
        self,
        complete: Iterable[QualifiedName] = (),
        under_way: Iterable[TableCopy] = (),
        *,
        noticed: Callable[[], None] = lambda: None,
    ) -> None:
        """`noticed` is called when a table turns up that nobody has heard of."""
        self._complete = set(complete)
        self.under_way = {copy.name: copy for copy in under_way}
        self.noticed = noticed
        self.postponed: set[QualifiedName] = set()
        """Tables that the target lacks: they are copied when it has them."""
        self.mending: set[QualifiedName] = set()
        """Complete tables of which rows may differ nevertheless: they are compared and mended."""
        self.asked = False
        """Somebody wants that the target be asked what is to be copied; nobody has done so yet."""

    @property
    def pending(self) -> bool:
        """Something is being copied, or can be."""
        return self.asked or bool(self.mending) or not self.under_way.keys() <= self.postponed

    def look_up(self, name: QualifiedName) -> TableCopy | None:
        """Return the copy of a table that is under way, or is to be made; None: it is complete."""
        if name in self._complete:
            return None
        if name not in self.under_way:
            self.request(name)
            self.noticed()
        return self.under_way[name]

    def request(self, name: QualifiedName) -> None:
        """Let a table be copied, whether or not it was before."""
        self._complete.discard(name)
        self.under_way.setdefault(name, TableCopy(name, name))

    def knows(self, name: QualifiedName) -> bool:
        """Tell whether a table was heard of."""
        return name in self._complete or name in self.under_way

    def complete(self, names: Iterable[QualifiedName]) -> None:
        """Note that the copies of tables are complete."""
        for name in names:
            self._complete.add(name)
            self.under_way.pop(name, None)
            self.mending.discard(name)

    def forget(self, name: QualifiedName) -> None:
        """Note that a table is not there any more."""
        self._complete.discard(name)
        self.under_way.pop(name, None)
        self.mending.discard(name)

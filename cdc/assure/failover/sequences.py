"""Where sequences have to go on, so that a new row gets a key that is free. Pure.

Logical replication copies no sequence: those of the target stand where the tables were made. Each
is moved behind the greatest value of the columns that it feeds, and behind where the source's
stands, if the source answers; never back. If it does not answer, it has given out numbers that
nobody here has seen, and that may stand in somebody's mail: so a distance is kept.
"""

from dataclasses import dataclass

from cdc.postgres.ordering import QualifiedName

# What a source gives out between the last commit that came and its end: seconds of work.
UNSEEN = 1000

# Of the numbers that are left: a sequence of smallint has 32,767.
_SHARE = 100


@dataclass(slots=True, frozen=True)
class Sequence:
    """A sequence of the target, and what it feeds."""

    name: QualifiedName
    owned: bool
    """Our role may move it."""
    increment: int
    low: int
    high: int
    next: int
    """What it would give next."""
    columns: tuple[str, ...]
    """Columns that it feeds, as schema.table.column."""
    reached: int | None
    """The greatest value of those columns, in its direction; None: no row has one."""
    unread: tuple[str, ...] = ()
    """Columns whose values are no numbers, or cannot be read."""

    def __str__(self) -> str:
        return ".".join(self.name)


@dataclass(slots=True, frozen=True)
class Move:
    """Where a sequence goes on."""

    sequence: Sequence
    restart: int


def move(sequence: Sequence, source_next: int | None) -> Move | None:
    """Return where a sequence has to go on; None where it stands well, or there is no number left.

    `source_next` is what the source's would give next, None where nobody knows.
    """
    step = sequence.increment
    wanted = [sequence.next] if source_next is None else [sequence.next, source_next]
    if sequence.reached is not None:
        wanted.append(sequence.reached + step)
    # In its own direction: descending ones count in negative steps.
    furthest = max(wanted) if step > 0 else min(wanted)
    if source_next is None and sequence.reached is not None and furthest != sequence.next:
        left = (
            (sequence.high - furthest) // step if step > 0 else (furthest - sequence.low) // -step
        )
        furthest += step * max(0, min(UNSEEN, left // _SHARE))
    if furthest == sequence.next or not sequence.low <= furthest <= sequence.high:
        return None
    return Move(sequence, furthest)


def used_up(sequence: Sequence) -> bool:
    """Tell whether what comes next is beyond its end."""
    if sequence.reached is None:
        return False
    following = sequence.reached + sequence.increment
    return not sequence.low <= following <= sequence.high

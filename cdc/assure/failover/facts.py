"""What a failover is judged by: the target as it is, the source as far as it answers.

Loaded once, then judged by `checks`; nothing here is an opinion.
"""

from dataclasses import dataclass, field

from cdc.assure.failover.access import Access
from cdc.assure.failover.alterations import Key, Plan
from cdc.assure.failover.on_source import SourceFacts
from cdc.assure.failover.sequences import Move, Sequence, move
from cdc.assure.spooled import Spooled
from cdc.lsn import Lsn
from cdc.postgres.ordering import QualifiedName
from cdc.settings import Settings
from cdc.target.checkpoint import Checkpoint
from cdc.target.copies import CopyRow


@dataclass(slots=True, frozen=True)
class TargetFacts:
    """The target."""

    role: str
    superuser: bool
    read_only: bool
    """No session of our role may write: a replica, or by a setting."""
    checkpoint: Checkpoint | None
    copies: tuple[CopyRow, ...] = ()
    open_entries: tuple[str, ...] = ()
    """Of the ledger: gaps."""
    quarantined: int = 0
    writing: tuple[int, ...] = ()
    """PIDs of the daemon's sessions."""
    plan: Plan = field(default_factory=Plan)
    invalid_keys: tuple[Key, ...] = ()
    unowned: tuple[QualifiedName, ...] = ()
    """Tables that would have to be altered and are not ours."""
    sequences: tuple[Sequence, ...] = ()
    access: Access = field(default_factory=Access)


@dataclass(slots=True, frozen=True)
class Facts:
    """Both sides, and this machine."""

    settings: Settings
    target: TargetFacts
    source: SourceFacts
    spooled: Spooled | None
    """Queued on this machine's disk."""
    covered: Lsn
    """Up to where nothing is missing, as far as the target and this machine know."""

    @property
    def moves(self) -> list[Move]:
        """The sequences that have to go on elsewhere."""
        known = self.source.sequences
        return [moved for one in self.target.sequences if (moved := move(one, known.get(one.name)))]

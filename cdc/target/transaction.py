"""The target's transaction: how it begins and ends, what it holds, and the checkpoint it moves.

Mostly one batch, of whole source transactions. A large source transaction comes in several batches:
then the target's stays open between them, each part under a savepoint, and counts what it holds.
Nothing is run here.
"""

from dataclasses import dataclass, replace

from cdc.changes.batch import Batch, TransactionEnd
from cdc.lsn import Lsn
from cdc.target.action import CHECK, DEFER, Action, Execute
from cdc.target.checkpoint import Checkpoint, advance

_BEGIN = Execute(b"begin")
_SAVEPOINT = Execute(b"savepoint part")
_COMMIT = Execute(b"commit")


@dataclass(slots=True)
class Transaction:
    """What the open transaction holds; nothing if none is open."""

    checkpoint: Checkpoint
    """As it was last committed."""
    is_open: bool = False
    transactions: int = 0
    changes: int = 0
    checks_parts: bool = True
    """Constraints that wait for the commit are checked after each part: at the end alone it would
    take as long as half of the writing, and the server would remember each row until then. False
    once a part did not meet them: a later one may mend that."""

    def begin(self, *, part: bool, deferrable: bool) -> list[Action]:
        """Return how it begins, or goes on, with constraints deferred where there can be any."""
        actions: list[Action] = []
        if not self.is_open:
            actions.append(_BEGIN)
            if deferrable:
                actions.append(DEFER)
        if self.is_open or part:
            actions.append(_SAVEPOINT)
        return actions

    def check(self, *, part: bool, deferrable: bool) -> list[Action]:
        """Return how what was written is checked before the end."""
        if part:
            return [CHECK, DEFER] if deferrable and self.checks_parts else []
        # A constraint that spoke at the COMMIT would take the parts before with it.
        return [CHECK] if self.is_open else []

    def end(self, end: TransactionEnd, transactions: int, changes: int) -> list[Action]:
        """Return how it is committed, with the checkpoint at the end of a source transaction."""
        move = advance(
            self.checkpoint,
            end.lsn,
            commit_time=end.commit_time,
            transactions=self.transactions + transactions,
            changes=self.changes + changes,
        )
        return [move, _COMMIT]

    def move(self, lsn: Lsn) -> list[Action]:
        """Return the transaction that moves the checkpoint, and nothing else."""
        move = advance(self.checkpoint, lsn, commit_time=None, transactions=0, changes=0)
        return [_BEGIN, move, _COMMIT]

    def note(self, batch: Batch) -> None:
        """Note a batch that was written, and committed if it was the last part of anything."""
        if batch.final:
            self.committed(batch.end_lsn, len(batch.transactions), batch.changes)
        else:
            self.keep(batch)

    def keep(self, batch: Batch) -> None:
        """Note a part that was written; the next batch belongs to the same transaction."""
        self.is_open = True
        self.transactions += len(batch.transactions)
        self.changes += batch.changes

    def committed(self, lsn: Lsn, transactions: int, changes: int) -> None:
        """Note that the target has taken it, with the checkpoint at `lsn`; be none."""
        self.checkpoint = replace(
            self.checkpoint,
            lsn=lsn,
            transactions=self.checkpoint.transactions + self.transactions + transactions,
            changes=self.checkpoint.changes + self.changes + changes,
        )
        self.forget()

    def forget(self) -> None:
        """Hold nothing: it was committed, or is gone with its session."""
        self.is_open = False
        self.transactions = self.changes = 0
        self.checks_parts = True

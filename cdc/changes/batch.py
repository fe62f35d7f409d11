"""Whole transactions gathered into a batch: what is applied in one transaction of the target.

A batch holds whole transactions in commit order and ends at a Commit, whose end LSN is the
checkpoint once it is applied; or it is a piece of a transaction that is too large for one. No clock
and no limits here: when a batch is taken is `sync.receiver`'s.
"""

from dataclasses import dataclass, field

from cdc.changes.fold import Fold, Step
from cdc.changes.policy import retain
from cdc.changes.relations import RelationCache, Table
from cdc.changes.tally import Tallies, tally
from cdc.errors import ProtocolError
from cdc.lsn import INVALID, Lsn
from cdc.wire.messages import (
    Begin,
    Commit,
    Delete,
    Insert,
    LogicalMessage,
    Message,
    Origin,
    Relation,
    Row,
    Truncate,
    Type,
    Update,
)


@dataclass(slots=True, frozen=True)
class TransactionEnd:
    """Where in a batch a source transaction ends."""

    changes: int
    """Number of the batch's changes up to its Commit."""
    lsn: Lsn
    """End of its Commit: the checkpoint once it is applied."""
    commit_time: int
    """µs since 2000-01-01."""


@dataclass(slots=True)
class Batch:
    """Whole transactions in commit order; or, if not `final`, a piece of a large one."""

    steps: list[Step] = field(default_factory=list)
    transactions: list[TransactionEnd] = field(default_factory=list)
    """Those that end in it."""
    changes: int = 0
    size: int = 0
    """Bytes received for it."""
    final: bool = True
    """False: its last transaction goes on in the next batch, and so must the target's."""
    open_lsn: Lsn = INVALID
    """If not final: LSN of the commit record of the transaction that goes on."""
    tallies: Tallies = field(default_factory=list)
    """Its changes by table, counted when it was taken."""

    @property
    def end_lsn(self) -> Lsn:
        """End of the last whole transaction: the checkpoint once this is applied."""
        return self.transactions[-1].lsn if self.transactions else INVALID


class BatchBuilder:
    """Takes messages as they come; `take` hands over what has been gathered."""

    def __init__(self, relations: RelationCache) -> None:
        self._relations = relations
        self._batch = Batch()
        self._fold = Fold()
        self._continues = False
        self._open_lsn = INVALID
        self._commit_time = 0
        self.in_transaction = False

    @property
    def changes(self) -> int:
        """Number of changes gathered."""
        return self._batch.changes

    @property
    def has_work(self) -> bool:
        """There is something for the target: changes, or the end of a transaction handed over."""
        return self._batch.changes > 0 or self._continues

    @property
    def size(self) -> int:
        """Bytes gathered."""
        return self._batch.size

    def take(self) -> Batch:
        """Return what was gathered since the last call, and start anew."""
        batch = self._batch
        batch.steps = self._fold.steps
        batch.tallies = tally(batch.steps)
        batch.final = not self.in_transaction
        batch.open_lsn = self._open_lsn
        self._continues = self.in_transaction
        self._batch = Batch()
        self._fold = Fold()
        return batch

    def add(self, message: Message, size: int) -> None:
        """Take in one message of `size` bytes; raise ProtocolError if it cannot stand here."""
        # The frequent ones first: a class pattern costs 40 ns.
        match message:
            case Insert():
                table = self._changed(message.relation_id, message.new)
                if table.retains:
                    self._retain(table, message)
                else:
                    self._fold.insert(table, message)
            case Update():
                table = self._changed(message.relation_id, message.new)
                if table.retains:
                    self._retain(table, message)
                else:
                    self._fold.update(table, message)
            case Delete():
                table = self._changed(message.relation_id, message.old)
                if table.retains:
                    self._retain(table, message)
                else:
                    self._fold.delete(table, message)
            case _:
                self._frame(message)
        self._batch.size += size

    def _frame(self, message: Message) -> None:
        """Take in what stands around the changes of rows."""
        match message:
            case Begin():
                self._begin(message)
            case Commit():
                self._commit(message)
            case Relation():
                if self._relations.add(message):
                    self._fold.cut()
            case Truncate():
                self._truncate(message)
            case Origin() | Type() | LogicalMessage():
                pass  # nothing of these reaches the target

    def _begin(self, message: Begin) -> None:
        if self.in_transaction:
            raise ProtocolError("a Commit", "Begin inside a transaction", 0)
        self.in_transaction = True
        self._open_lsn = message.final_lsn
        self._commit_time = message.commit_time

    def _commit(self, message: Commit) -> None:
        if not self.in_transaction:
            raise ProtocolError("a Begin", "Commit outside a transaction", 0)
        self.in_transaction = False
        batch = self._batch
        end = TransactionEnd(batch.changes, message.end_lsn, message.commit_time)
        if batch.changes == 0 and not self._continues:
            # Logical messages, say: without number, and nothing to the target.
            self._batch = Batch()
        elif batch.transactions and batch.transactions[-1].changes == batch.changes:
            batch.transactions[-1] = end
        else:
            batch.transactions.append(end)

    def _truncate(self, message: Truncate) -> None:
        tables = tuple(self._table(relation_id) for relation_id in message.relation_ids)
        tables = tuple(table for table in tables if table.policy.truncate != "ignore")
        if tables:
            self._batch.changes += 1
            self._fold.truncate(tables, restart_identity=message.restart_identity)

    def _retain(self, table: Table, message: Insert | Update | Delete) -> None:
        match retain(message, table.policy, table.key, self._commit_time):
            case Insert() as kept:
                self._fold.insert(table, kept)
            case Update() as kept:
                self._fold.update(table, kept)
            case None:
                self._batch.changes -= 1

    def _changed(self, relation_id: int, row: Row) -> Table:
        table = self._table(relation_id)
        width = len(table.relation.columns)
        if len(row) != width:
            raise ProtocolError(f"{width} values for {table}", f"{len(row)} values", 0)
        self._batch.changes += 1
        return table

    def _table(self, relation_id: int) -> Table:
        if not self.in_transaction:
            raise ProtocolError("a Begin", "a change outside a transaction", 0)
        try:
            return self._relations[relation_id]
        except KeyError:
            raise ProtocolError("a Relation first", f"relation id {relation_id}", 0) from None

"""A writer that keeps the source busy: seeded random transactions until it is told to stop.

`Workload` runs them one after the other on a connection of its own, in a thread of its own; most of
that time psycopg waits for the server with the interpreter lock released. The same seed on the same
rows gives the same transactions. Several workloads may write at once: what they do to each other is
a deadlock now and then, which counts as a rolled back transaction. Any other error ends the writer,
and `stop` raises it.
"""

import threading
import time
from collections.abc import Callable
from random import Random
from types import TracebackType
from typing import Self

import psycopg
from psycopg.rows import TupleRow

from cdc.demo.workload import everyday, key_changes
from cdc.demo.workload.writer import Writer

Kind = Callable[[Writer], None]

TRANSACTIONS: tuple[tuple[int, Kind], ...] = (
    (16, everyday.book_transactions),
    (10, everyday.open_application),
    (8, everyday.edit_application),
    (8, everyday.decide_application),
    (8, everyday.annotate_document),
    (6, everyday.make_offer),
    (6, everyday.finance_business),
    (4, everyday.register_group),
    (4, everyday.replace_document),
    (4, everyday.settle_installments),
    (4, everyday.import_rates),
    (1, everyday.expire_rates),
    (2, everyday.retire_provider),
    (3, everyday.delete_application),
    (3, everyday.touch_business),
    (3, everyday.prune_audit_events),
    (2, everyday.reprice_offers),
    (2, everyday.close_account),
    (2, everyday.dissolve_business),
    (2, everyday.change_mind),
    (2, everyday.abandon),
    (2, key_changes.rename_provider),
    (1, key_changes.exchange_provider_codes),
    (2, key_changes.exchange_provider_ranks),
    (2, key_changes.move_rate),
    (3, key_changes.exchange_registration_numbers),
    (2, key_changes.reregister_business),
    (3, key_changes.switch_accepted_offer),
    (2, key_changes.reinsert_application),
    (2, key_changes.withdraw_application),
    (3, key_changes.rekey_document),
    (2, key_changes.reinsert_document),
    (3, key_changes.append_installment),
    (3, key_changes.renumber_installments),
    (2, key_changes.reinsert_installment),
)
"""Every kind of transaction, and how often it comes beside the others."""

# A pause that the writer missed, because a transaction took long, is made up for within this time.
CATCH_UP_S = 0.25


class Workload:
    """Random transactions on the source between `start` and `stop`, or inside a `with` block.

    `rate` is in transactions per second; None is as fast as one session can.
    """

    def __init__(
        self,
        dsn: str,
        *,
        seed: int = 1,
        rate: float | None = 200,
        kinds: tuple[tuple[int, Kind], ...] = TRANSACTIONS,
    ) -> None:
        self.transactions = 0
        """Committed so far."""
        self.changes = 0
        """Rows that these inserted, updated and deleted; those of cascades and triggers apart."""
        self.rolled_back = 0
        self._dsn = dsn
        self._seed = seed
        self._pause = 1 / rate if rate else 0.0
        self._weights = [weight for weight, _ in kinds]
        self._kinds = [kind for _, kind in kinds]
        self._stopping = threading.Event()
        # A daemon thread, so that a caller that dies is not kept alive.
        self._thread = threading.Thread(target=self._run_in_thread, name="workload", daemon=True)
        self._error: Exception | None = None

    def start(self) -> None:
        """Start to write; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the transaction in hand and stop; raise what ended the writer before that."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        if self._error is not None:
            raise self._error

    @property
    def running(self) -> bool:
        """Whether it still writes: false before `start`, after `stop` and after an error."""
        return self._thread.is_alive()

    def run(self, transactions: int | None = None) -> None:
        """Write in the caller's thread: so many transactions, or until `stop` is called."""
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            writer = self._begin_run(connection)
            due = time.monotonic()
            while transactions is None or self.transactions + self.rolled_back < transactions:
                if self._stopping.wait(max(0.0, due - time.monotonic())):
                    break
                self._run_one(writer)
                due = max(due + self._pause, time.monotonic() - CATCH_UP_S)

    def _run_one(self, writer: Writer) -> None:
        kind = writer.rng.choices(self._kinds, self._weights)[0]
        writer.changes = 0
        committed = False
        try:
            with writer.connection.transaction():
                kind(writer)
                committed = True  # not reached when the kind gives up
        except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure):
            committed = False
        if committed:
            self.transactions += 1
            self.changes += writer.changes
        else:
            self.rolled_back += 1

    def _run_in_thread(self) -> None:
        try:
            self.run()
        except Exception as error:  # noqa: BLE001 - stop() raises it in the caller's thread
            self._error = error

    def _begin_run(self, connection: psycopg.Connection[TupleRow]) -> Writer:
        # The run's number: none on this source has had it, nor will have.
        row = connection.execute(
            """
            insert into credit.audit_events (actor, entity, entity_key, action)
            values ('workload', 'workload', %s, 'started') returning id
            """,
            (str(self._seed),),
        ).fetchone()
        assert row is not None
        return Writer(connection, Random(f"{self._seed}/{row[0]}"), run=row[0])

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

"""Fold then apply == apply one by one, between two servers.

The operations are those of tests/unit/test_fold.py; here a server runs them as SQL, in transactions
as they come, and the changes take the real way to the target's tables (tests.conveyor). Where
batches end and in which form they are written is drawn too. Each time that the target commits, it
holds, row for row, what the source held after the transaction that the batch ends with.
"""

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from functools import partial

import psycopg
import pytest
from hypothesis import example, given, note, settings
from hypothesis import strategies as st

from cdc.lsn import Lsn, parse_lsn
from tests.conveyor import FORMS, Conveyor, Cutting, begin_anew
from tests.databases import migrate, run_sql
from tests.operations import FILLED, Operation, described, histories, op
from tests.pair import PINNED, Pair, make_pair
from tests.process import ok
from tests.servers import SessionServers, Versions
from tests.sql_source import ATTEMPT, SCHEMA, Rows, SqlSource, read_rows
from tests.tally import count

# Folds of many changes and the form that is planned are where most can go wrong.
cuttings = st.builds(
    Cutting,
    st.sampled_from([10_000, 10_000, 10_000, 30, 7, 2, 1]),
    st.sampled_from([False, False, True]),
    st.sampled_from(["planned", "planned", *FORMS]),
)
WHOLE = Cutting(10_000, each_commit=False, form="planned")
PARTS = Cutting(2, each_commit=False, form="planned")


class Belt:
    """A pair with the tables, and the conveyor between them; it begins anew after a failure."""

    def __init__(self, pair: Pair, runner: asyncio.Runner) -> None:
        self._pair = pair
        self._runner = runner
        self._conveyor: Conveyor | None = None
        self._source = psycopg.connect(pair.source_dsn, autocommit=True, options=PINNED)
        self._target = psycopg.connect(pair.target_dsn, autocommit=True, options=PINNED)

    def check(self, operations: list[Operation], cutting: Cutting) -> None:
        """Run operations on the source and compare both sides after each batch."""
        if self._conveyor is None:
            self._conveyor = self._runner.run(begin_anew(self._pair))
        try:
            self._check(self._conveyor, operations, cutting)
        except BaseException:
            self._source.execute("rollback")
            self.stop()
            raise

    def _check(self, conveyor: Conveyor, operations: list[Operation], cutting: Cutting) -> None:
        source = SqlSource(self._source)
        source.clear()
        after, states = [self._lsn()], [read_rows(self._source)]
        for operation in [*operations, op("commit")]:
            done = source.transactions
            source.run(operation)
            if source.transactions > done:
                after.append(self._lsn())
                states.append(read_rows(self._source))
        count("fold, two servers", "transactions", source.transactions)

        def compare(lsn: Lsn) -> None:
            # A batch may end behind the last of them, at the barrier.
            which = min(bisect_left(after, lsn), len(after) - 1)
            check_equal(states[which], read_rows(self._target))

        self._runner.run(conveyor.carry(self._barrier(), cutting, compare))
        check_equal(states[-1], read_rows(self._target))

    def _lsn(self) -> Lsn:
        return self._ask("select pg_current_wal_insert_lsn()::text")

    def _barrier(self) -> Lsn:
        return self._ask("select pg_logical_emit_message(true, 'test', 'end')::text")

    def _ask(self, query: str) -> Lsn:
        row = self._source.execute(query).fetchone()
        assert row is not None
        return parse_lsn(row[0])

    def stop(self) -> None:
        """End the conveyor, if there is one."""
        conveyor, self._conveyor = self._conveyor, None
        if conveyor is not None:
            self._runner.run(conveyor.stop())

    def close(self) -> None:
        """End all."""
        self.stop()
        self._source.close()
        self._target.close()


def check_equal(source: Rows, target: Rows) -> None:
    """Assert that the target holds the source's rows, and name those that it does not."""
    for table, rows in source.items():
        missing, extra = rows - target[table], target[table] - rows
        assert not missing, f"{table} lacks {_short(missing)}; has {_short(extra)} instead"
        assert not extra, f"{table} has {_short(extra)}, which the source has not"


def _short(rows: Counter[str]) -> list[str]:
    return [row.replace("x" * 100, "") for row in rows]


@pytest.fixture(scope="module")
def belt(servers: SessionServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Belt]:
    """One pair for all examples: each begins with empty tables."""
    state_dir = tmp_path_factory.mktemp("fold") / "state"
    with make_pair(servers, Versions(), state_dir, credit=False) as pair:
        migrate(pair, SCHEMA)
        run_sql(pair.source_dsn, ATTEMPT)
        ok(pair, "init")
        with asyncio.Runner() as runner:
            belt = Belt(pair, runner)
            yield belt
            belt.close()


row = partial(op, "insert", keep=False)  # without a link
link = partial(op, "update", keep=False)
LATER = (op("commit"), op("take"))


@given(histories, cuttings)
@settings(max_examples=settings().max_examples * 15)
@example([*FILLED, op("trade", 1, 2)], WHOLE)
@example([*FILLED, op("delete", 1), link(0, 1, table=2), row(1)], PARTS)
@example([*FILLED, op("delete", 1), link(2, 1, table=2), op("rekey", 2, 1)], WHOLE)
@example([*FILLED, link(1, 0), link(2, 1), *LATER, link(1, 1), op("delete", 0)], WHOLE)
def test_fold_then_apply_is_apply_one_by_one(
    belt: Belt, operations: list[Operation], cutting: Cutting
) -> None:
    """After any batch of any transactions, the target's rows are those that the source had."""
    count("fold, two servers", "examples")
    note(described(operations))
    belt.check(operations, cutting)

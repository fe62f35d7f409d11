"""Reads what the metrics say from a daemon's vitals. What is not known is not said: it is not 0.

The numbers are read while the daemon goes on, in another thread maybe: each dictionary is copied
first, which nothing can come between.
"""

import resource
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from opentelemetry.metrics import Observation

from cdc.counts import Operations, TableCounts
from cdc.observe.now import Now
from cdc.progress import Progress
from cdc.verified import Verifications, Verified
from cdc.vitals import Phase, Vitals

Read: TypeAlias = Callable[[Vitals, Now], Iterable[Observation]]


def one(value: float | None) -> Iterator[Observation]:
    """Yield a value; nothing where it is not known: a missing number is no nought."""
    if value is not None:
        yield Observation(value)


def of_stream(vitals: Vitals, read: Callable[[Progress], int]) -> Iterator[Observation]:
    """Yield a value of the stream, if there is or was one."""
    if vitals.progress is not None:
        yield Observation(read(vitals.progress))


def state(states: Iterable[str], current: str | None) -> Iterator[Observation]:
    """Yield 1 for the current one of several states, 0 for the others."""
    for state in states:
        yield Observation(int(state == current), {"state": state})


def lag(vitals: Vitals, _: Now) -> Iterator[Observation]:
    """Yield the WAL between two places of the way, each by the name of what lies between."""
    progress, source_lsn = vitals.progress, vitals.wal.source_lsn
    if progress is None:
        return
    if source_lsn is not None:
        yield Observation(max(source_lsn - progress.received, 0), {"stage": "receive"})
    yield Observation(progress.received - progress.reached, {"stage": "apply"})
    yield Observation(max(progress.reached - progress.confirmed, 0), {"stage": "confirm"})


def by_table(
    read: Callable[[TableCounts], Operations],
) -> Callable[[Vitals, Now], Iterator[Observation]]:
    """Return what yields the changes of each table and operation."""

    def observe(vitals: Vitals, _: Now) -> Iterator[Observation]:
        for (schema, name), counts in list(vitals.counts.tables.items()):
            for operation, number in read(counts).each():
                if number:
                    yield Observation(number, {"table": f"{schema}.{name}", "operation": operation})

    return observe


def folded(vitals: Vitals, _: Now) -> Iterator[Observation]:
    """Yield of each table what had not to be written."""
    for (schema, name), counts in list(vitals.counts.tables.items()):
        yield Observation(counts.folded, {"table": f"{schema}.{name}"})


def failures(vitals: Vitals, _: Now) -> Iterator[Observation]:
    """Yield the failures of each class of SQLSTATE."""
    for sqlstate_class, number in list(vitals.counts.failures.items()):
        yield Observation(number, {"class": sqlstate_class})


def failovers(vitals: Vitals, _: Now) -> Iterator[Observation]:
    """Yield the entries of the ledger about a failover, by what they say."""
    for kind, number in list(vitals.counts.failovers.items()):
        yield Observation(number, {"kind": kind})


def copied_tables(vitals: Vitals, _: Now) -> Iterator[Observation]:
    """Yield the tables of a copy, done and to do."""
    copy = vitals.copy
    yield Observation(copy.tables - copy.tables_done, {"state": "under way"})
    yield Observation(copy.tables_done, {"state": "done"})


def chunks(vitals: Vitals, _: Now) -> Iterator[Observation]:
    """Yield the chunks of a copy, done and to do."""
    copy = vitals.copy
    yield Observation(copy.chunks - copy.chunks_done, {"state": "to do"})
    yield Observation(copy.chunks_done, {"state": "done"})


def verifications(vitals: Vitals, _: Now) -> Iterator[Observation]:
    """Yield how many verifications came to each result."""
    found = vitals.verifications
    results = {"equal": found.equal, "different": found.different, "failed": found.failed}
    for result, number in results.items():
        yield Observation(number, {"result": result})


def verified(
    read: Callable[[Verifications], Verified | None], value: Callable[[Verified], float]
) -> Callable[[Vitals, Now], Iterator[Observation]]:
    """Return what yields a value of a verification, if there was one."""

    def observe(vitals: Vitals, _: Now) -> Iterator[Observation]:
        found = read(vitals.verifications)
        return one(None if found is None else value(found))

    return observe


def differing(vitals: Vitals, _: Now) -> Iterator[Observation]:
    """Yield how many tables are known to differ; who stands by does not know."""
    if vitals.verifications.last is not None and vitals.phase is not Phase.STANDBY:
        yield Observation(len(vitals.differing))


def memory_bytes() -> int:
    """Return the resident set of this process."""
    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123  # read at each scrape
        return int(file.read().split()[1]) * resource.getpagesize()

"""Every metric, once: its name, kind, unit, what it says, and where that is read.

Names and units are in the style of OpenTelemetry's semantic conventions: no unit in a name, no
plural of what goes up and down. Prometheus shows `cdc.lag.time` in seconds as
`cdc_lag_time_seconds`, and what only grows with `_total`. `docs/metrics.md` is made from this.

Nearly all is read when somebody asks, from numbers that the pipeline keeps anyway. The histograms
are recorded once a batch, never once a row: that costs 6 µs each (measured, SDK 1.45).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Histogram, Observation

from cdc import __version__
from cdc.observe.now import now
from cdc.observe.readings import (
    Read,
    by_table,
    chunks,
    copied_tables,
    failovers,
    failures,
    folded,
    lag,
    memory_bytes,
    of_stream,
    one,
    state,
)
from cdc.vitals import Phase, Vitals


class Kind(StrEnum):
    """What may happen to a number."""

    COUNTER = "counter"
    """It grows, from nought at the start of the process."""
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(slots=True, frozen=True)
class Instrument:
    """One metric."""

    name: str
    kind: Kind
    unit: str
    """UCUM."""
    description: str
    read: Read | None = None
    """None: recorded as it happens."""
    attributes: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    """Upper bounds."""


_DURATIONS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SIZES = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)


def _gauge(name: str, unit: str, description: str, read: Read, *attributes: str) -> Instrument:
    return Instrument(f"cdc.{name}", Kind.GAUGE, unit, description, read, attributes)


def _counter(name: str, unit: str, description: str, read: Read, *attributes: str) -> Instrument:
    return Instrument(f"cdc.{name}", Kind.COUNTER, unit, description, read, attributes)


def _histogram(name: str, unit: str, description: str, buckets: tuple[float, ...]) -> Instrument:
    return Instrument(f"cdc.{name}", Kind.HISTOGRAM, unit, description, buckets=buckets)


_PROCESS = (
    _gauge(
        "info", "1", "1, with the version that runs",
        lambda *_: [Observation(1, {"version": __version__})], "version",
    ),
    _gauge(
        "phase", "1", "1 for what the daemon is at, 0 for all else",
        lambda v, _: state(Phase, v.phase), "state",
    ),
    _gauge(
        "progress.time", "s",
        "Unix time at which anything came on last: a change, a keepalive, a copied row",
        lambda v, n: one(n.unix_of(v.moved_at_s) if v.moved_at_s else None),
    ),
    _gauge(
        "memory.usage", "By", "resident memory of the daemon", lambda *_: one(memory_bytes())
    ),
    _gauge(
        "queue.size", "By", "bytes received for the target and held in memory",
        lambda v, _: of_stream(v, lambda p: p.queued_bytes),
    ),
    _gauge(
        "spool.size", "By", "bytes queued on the daemon's disk for a target that was away",
        lambda v, _: of_stream(v, lambda p: p.spooled_bytes),
    ),
    _gauge(
        "spool.limit", "By", "bytes that may be queued on the daemon's disk; absent: none",
        lambda v, _: one(v.spool_limit_bytes or None),
    ),
    _gauge(
        "spool.transactions", "{transaction}", "transactions queued on the daemon's disk",
        lambda v, _: of_stream(v, lambda p: p.spooled_transactions),
    ),
)  # fmt: skip

_LAG = (
    _gauge(
        "lag", "By",
        "WAL between two places: written on the source and received (receive), received and on the"
        " target (apply), on the target and confirmed to the source (confirm)",
        lag, "stage",
    ),
    _gauge(
        "lag.time", "s",
        "how long the oldest commit that the target lacks has been on the source; 0 when caught up",
        lambda v, n: one(v.lag_s(n.source_us, n.at_s)),
    ),
    _gauge(
        "heartbeat.time", "s",
        "what the last heartbeat took from the source's WAL until all before it was on the target",
        lambda v, _: one(v.heartbeat.duration_s),
    ),
    _gauge(
        "heartbeat.age", "s", "how long the heartbeat has been under way that has not arrived yet",
        lambda v, n: one(v.heartbeat.age_s(n.at_s)),
    ),
)  # fmt: skip

_SOURCE = (
    _gauge(
        "source.up", "1", "1 if the source answered when it was last asked",
        lambda v, _: one(None if v.source_answers is None else int(v.source_answers)),
    ),
    _gauge(
        "slot.wal.retained", "By", "WAL that the slot holds back on the source",
        lambda v, _: one(v.wal.retained_bytes),
    ),
    _gauge(
        "slot.wal.safe", "By",
        "WAL that can still be written before the slot may be lost; absent: without limit",
        lambda v, _: one(v.wal.safe_bytes),
    ),
    _gauge(
        "slot.wal.used", "1", "share of the WAL budget that is used up, 0 to 1",
        lambda v, _: one(v.wal.used),
    ),
    _gauge(
        "slot.wal.time_left", "s",
        "time until the slot may be lost, if WAL goes on being written as it was",
        lambda v, _: one(v.wal.seconds_left),
    ),
    _gauge(
        "slot.status", "1", "1 for the slot's wal_status, 0 for all others",
        lambda v, _: state(("reserved", "extended", "unreserved", "lost"), v.wal.status), "state",
    ),
    _counter(
        "streams", "{stream}", "streams started: the first one, and each reconnection",
        lambda v, _: one(v.counts.streams),
    ),
)  # fmt: skip

_CHANGES = (
    _counter(
        "changes.received", "{change}", "changes received, as the source sent them",
        by_table(lambda c: c.received), "table", "operation",
    ),
    _counter(
        "changes.applied", "{change}",
        "net changes that the target has committed: twice a row in one batch counts once",
        by_table(lambda c: c.applied), "table", "operation",
    ),
    _counter(
        "changes.folded", "{change}",
        "changes that had not to be written, since a later one of the same batch was",
        folded, "table",
    ),
    _counter(
        "transactions", "{transaction}", "source transactions that the target has committed",
        lambda v, _: one(v.counts.transactions),
    ),
    _counter(
        "toast.fills", "{change}",
        "changes whose unchanged TOAST values were known from an earlier change",
        lambda v, _: one(v.counts.fills),
    ),
    _counter(
        "repairs", "{row}", "rows that the target lacked, read from the source",
        lambda v, _: one(v.counts.repairs),
    ),
)  # fmt: skip

_APPLY = (
    _counter(
        "batches", "{batch}", "batches that the target has taken",
        lambda v, _: one(v.counts.batches),
    ),
    _histogram("batch.size", "{change}", "changes in a batch", _SIZES),
    _histogram(
        "batch.duration", "s", "time that a batch took on the target, retries and all", _DURATIONS_S
    ),
    _counter(
        "apply.failures", "{failure}",
        "writes that failed, by SQLSTATE class; `connection`: the target was not there",
        failures, "class",
    ),
    _counter(
        "apply.retries", "{retry}", "batches begun anew after a failure",
        lambda v, _: one(v.counts.retries),
    ),
    _counter(
        "apply.replays", "{batch}", "batches that the target took one change at a time only",
        lambda v, _: one(v.counts.replays),
    ),
    _gauge(
        "quarantine.rows", "{row}", "rows whose changes wait in the quarantine",
        lambda v, _: one(v.counts.quarantined),
    ),
    _gauge(
        "target.up", "1", "1 if the last session on the target could be opened",
        lambda v, _: one(None if v.target.answers is None else int(v.target.answers)),
    ),
    _gauge(
        "target.asleep", "1",
        "1 if nothing was asked of the target for long enough that Neon suspends it",
        lambda v, n: [Observation(int(v.target.asleep(n.at_s)))],
    ),
    _counter(
        "target.wake_ups", "{wake_up}", "times that the daemon asked a target that may have slept",
        lambda v, _: one(v.target.wake_ups),
    ),
    _counter(
        "target.awake", "s", "time for which the daemon has kept the target awake",
        lambda v, n: one(v.target.seconds(n.at_s)),
    ),
)  # fmt: skip

_COPY = (
    _gauge("copy.tables", "{table}", "tables of the copy that runs", copied_tables, "state"),
    _gauge("copy.chunks", "{chunk}", "chunks of the copy that runs", chunks, "state"),
    _gauge(
        "copy.rows", "{row}", "rows copied by the copy that runs", lambda v, _: one(v.copy.rows)
    ),
)

_FAILOVER = (
    _gauge(
        "failover.events", "{event}",
        "failovers and drills that the ledger knew of when a session on the target began last",
        failovers, "kind",
    ),
)  # fmt: skip

INSTRUMENTS: tuple[Instrument, ...] = (
    *(*_PROCESS, *_LAG, *_SOURCE, *_CHANGES, *_APPLY, *_COPY),
    *_FAILOVER,
)

# No-ops until a provider is set (`observe.telemetry`).
_METER = metrics.get_meter("cdc", __version__)


def _recorded(name: str) -> Histogram:
    (it,) = (one for one in INSTRUMENTS if one.name == name)
    return _METER.create_histogram(
        it.name, it.unit, it.description, explicit_bucket_boundaries_advisory=it.buckets
    )


BATCH_SIZE = _recorded("cdc.batch.size")
BATCH_DURATION = _recorded("cdc.batch.duration")


def register(vitals: Vitals) -> None:
    """Have the instruments read a daemon's vitals whenever they are asked for."""
    for instrument in INSTRUMENTS:
        if instrument.read is None:
            continue
        create = (
            _METER.create_observable_counter
            if instrument.kind is Kind.COUNTER
            else _METER.create_observable_gauge
        )
        create(
            instrument.name,
            [_reading(instrument.read, vitals)],
            instrument.unit,
            instrument.description,
        )


def _reading(read: Read, vitals: Vitals) -> Callable[[CallbackOptions], Iterable[Observation]]:
    return lambda _: read(vitals, now())

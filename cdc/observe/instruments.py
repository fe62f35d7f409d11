"""Every metric, once: its name, kind, unit, what it says, and where that is read.

Names and units are in the style of OpenTelemetry's semantic conventions: no unit in a name, no
plural of what goes up and down. Prometheus shows `cdc.lag.time` in seconds as
`cdc_lag_time_seconds`, and what only grows with `_total`. `docs/metrics.md` is made from this.

Nearly all is read when somebody asks, from numbers that the pipeline keeps anyway. The histograms
are recorded once a batch, never once a row: that costs 6 µs each (measured, SDK 1.45).
"""

from collections.abc import Callable, Iterable

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Histogram, Observation

from cdc import __version__
from cdc.observe.instrument import Instrument, Kind, counter, gauge, histogram
from cdc.observe.now import now
from cdc.observe.readings import (
    Read,
    by_table,
    chunks,
    copied_tables,
    differing,
    failovers,
    failures,
    folded,
    lag,
    memory_bytes,
    of_stream,
    one,
    state,
    verifications,
    verified,
)
from cdc.vitals import Phase, Vitals

_DURATIONS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SIZES = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)


_PROCESS = (
    gauge(
        "info", "1", "1, with the version that runs",
        lambda *_: [Observation(1, {"version": __version__})], "version",
    ),
    gauge(
        "phase", "1", "1 for what the daemon is at, 0 for all else",
        lambda v, _: state(Phase, v.phase), "state",
    ),
    gauge(
        "progress.time", "s",
        "Unix time at which anything came on last: a change, a keepalive, a copied row",
        lambda v, n: one(n.unix_of(v.moved_at_s) if v.moved_at_s else None),
    ),
    gauge(
        "memory.usage", "By", "resident memory of the daemon", lambda *_: one(memory_bytes())
    ),
    gauge(
        "queue.size", "By", "bytes received for the target and held in memory",
        lambda v, _: of_stream(v, lambda p: p.queued_bytes),
    ),
    gauge(
        "spool.size", "By", "bytes queued on the daemon's disk for a target that was away",
        lambda v, _: of_stream(v, lambda p: p.spooled_bytes),
    ),
    gauge(
        "spool.limit", "By", "bytes that may be queued on the daemon's disk; absent: none",
        lambda v, _: one(v.spool_limit_bytes or None),
    ),
    gauge(
        "spool.transactions", "{transaction}", "transactions queued on the daemon's disk",
        lambda v, _: of_stream(v, lambda p: p.spooled_transactions),
    ),
)  # fmt: skip

_LAG = (
    gauge(
        "lag", "By",
        "WAL between two places: written on the source and received (receive), received and on the"
        " target (apply), on the target and confirmed to the source (confirm)",
        lag, "stage",
    ),
    gauge(
        "lag.time", "s",
        "how long the oldest commit that the target lacks has been on the source; 0 when caught up",
        lambda v, n: one(v.lag_s(n.source_us, n.at_s)),
    ),
    gauge(
        "heartbeat.time", "s",
        "what the last heartbeat took from the source's WAL until all before it was on the target",
        lambda v, _: one(v.heartbeat.duration_s),
    ),
    gauge(
        "heartbeat.age", "s", "how long the heartbeat has been under way that has not arrived yet",
        lambda v, n: one(v.heartbeat.age_s(n.at_s)),
    ),
)  # fmt: skip

_SOURCE = (
    gauge(
        "source.up", "1", "1 if the source answered when it was last asked",
        lambda v, _: one(None if v.source_answers is None else int(v.source_answers)),
    ),
    gauge(
        "slot.wal.retained", "By", "WAL that the slot holds back on the source",
        lambda v, _: one(v.wal.retained_bytes),
    ),
    gauge(
        "slot.wal.safe", "By",
        "WAL that can still be written before the slot may be lost; absent: without limit",
        lambda v, _: one(v.wal.safe_bytes),
    ),
    gauge(
        "slot.wal.used", "1", "share of the WAL budget that is used up, 0 to 1",
        lambda v, _: one(v.wal.used),
    ),
    gauge(
        "slot.wal.time_left", "s",
        "time until the slot may be lost, if WAL goes on being written as it was",
        lambda v, _: one(v.wal.seconds_left),
    ),
    gauge(
        "slot.status", "1", "1 for the slot's wal_status, 0 for all others",
        lambda v, _: state(("reserved", "extended", "unreserved", "lost"), v.wal.status), "state",
    ),
    counter(
        "streams", "{stream}", "streams started: the first one, and each reconnection",
        lambda v, _: one(v.counts.streams),
    ),
)  # fmt: skip

_CHANGES = (
    counter(
        "changes.received", "{change}", "changes received, as the source sent them",
        by_table(lambda c: c.received), "table", "operation",
    ),
    counter(
        "changes.applied", "{change}",
        "net changes that the target has committed: twice a row in one batch counts once",
        by_table(lambda c: c.applied), "table", "operation",
    ),
    counter(
        "changes.folded", "{change}",
        "changes that had not to be written, since a later one of the same batch was",
        folded, "table",
    ),
    counter(
        "transactions", "{transaction}", "source transactions that the target has committed",
        lambda v, _: one(v.counts.transactions),
    ),
    counter(
        "toast.fills", "{change}",
        "changes whose unchanged TOAST values were known from an earlier change",
        lambda v, _: one(v.counts.fills),
    ),
    counter(
        "repairs", "{row}", "rows that the target lacked, read from the source",
        lambda v, _: one(v.counts.repairs),
    ),
)  # fmt: skip

_APPLY = (
    counter(
        "batches", "{batch}", "batches that the target has taken",
        lambda v, _: one(v.counts.batches),
    ),
    histogram("batch.size", "{change}", "changes in a batch", _SIZES),
    histogram(
        "batch.duration", "s", "time that a batch took on the target, retries and all", _DURATIONS_S
    ),
    counter(
        "apply.failures", "{failure}",
        "writes that failed, by SQLSTATE class; `connection`: the target was not there",
        failures, "class",
    ),
    counter(
        "apply.retries", "{retry}", "batches begun anew after a failure",
        lambda v, _: one(v.counts.retries),
    ),
    counter(
        "apply.replays", "{batch}", "batches that the target took one change at a time only",
        lambda v, _: one(v.counts.replays),
    ),
    gauge(
        "quarantine.rows", "{row}", "rows whose changes wait in the quarantine",
        lambda v, _: one(v.counts.quarantined),
    ),
    gauge(
        "target.up", "1", "1 if the last session on the target could be opened",
        lambda v, _: one(None if v.target.answers is None else int(v.target.answers)),
    ),
    gauge(
        "target.asleep", "1",
        "1 if nothing was asked of the target for long enough that Neon suspends it",
        lambda v, n: [Observation(int(v.target.asleep(n.at_s)))],
    ),
    counter(
        "target.wake_ups", "{wake_up}", "times that the daemon asked a target that may have slept",
        lambda v, _: one(v.target.wake_ups),
    ),
    counter(
        "target.awake", "s", "time for which the daemon has kept the target awake",
        lambda v, n: one(v.target.seconds(n.at_s)),
    ),
)  # fmt: skip

_COPY = (
    gauge("copy.tables", "{table}", "tables of the copy that runs", copied_tables, "state"),
    gauge("copy.chunks", "{chunk}", "chunks of the copy that runs", chunks, "state"),
    gauge("copy.rows", "{row}", "rows copied by the copy that runs", lambda v, _: one(v.copy.rows)),
)

_VERIFY = (
    counter(
        "verify.runs", "{run}",
        "verifications that have ended: both sides equal, different, or without a result (failed)",
        verifications, "result",
    ),
    gauge(
        "verify.lsn", "By",
        "place in the source's WAL (LSN, in bytes) at which all tables were last found equal",
        verified(lambda v: v.last_equal, lambda found: found.lsn),
    ),
    gauge(
        "verify.time", "s", "Unix time at which all tables were last compared",
        verified(lambda v: v.last_of_all, lambda found: found.at_unix_s),
    ),
    gauge(
        "verify.equal", "1", "1 if all tables were equal when all were last compared",
        verified(lambda v: v.last_of_all, lambda found: int(found.equal)),
    ),
    gauge(
        "verify.differing", "{table}", "tables that differed when they were last compared",
        differing,
    ),
    gauge(
        "verify.rows", "{row}", "rows of the source that the last verification compared",
        verified(lambda v: v.last, lambda found: found.rows),
    ),
)  # fmt: skip

_FAILOVER = (
    gauge(
        "failover.events", "{event}",
        "failovers and drills that the ledger knew of when a session on the target began last",
        failovers, "kind",
    ),
)  # fmt: skip

INSTRUMENTS: tuple[Instrument, ...] = (
    *_PROCESS,
    *_LAG,
    *_SOURCE,
    *_CHANGES,
    *_APPLY,
    *_COPY,
    *_VERIFY,
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

"""Everything that the status page shows, as one JSON object: from memory alone, no row's value."""

import orjson

from cdc import __version__
from cdc.lsn import Lsn, format_lsn
from cdc.observe.health import assess, iso
from cdc.observe.history import INTERVAL_S, History
from cdc.observe.now import Now, unix_of_commit
from cdc.vitals import Vitals


def glance(vitals: Vitals, history: History, now: Now, max_lag_s: float) -> bytes:
    """Return what there is to see, as JSON."""
    health = assess(vitals, now, max_lag_s)
    return orjson.dumps(
        {
            "version": __version__,
            "time": iso(now.unix_s),
            "slot": vitals.slot,
            "phase": vitals.phase,
            "health": orjson.Fragment(health.as_json()),
            "maxLagSeconds": max_lag_s,
            "stream": _stream(vitals, history),
            "wal": _wal(vitals),
            "copy": _copy(vitals),
            "target": {
                "wakeUps": vitals.target.wake_ups,
                "awakeSeconds": round(vitals.target.seconds(now.at_s), 1),
                "quarantinedRows": vitals.counts.quarantined,
                "repairs": vitals.counts.repairs,
            },
            "tables": _tables(vitals),
            "history": {
                "intervalSeconds": INTERVAL_S,
                "samples": [
                    (round(s.unix_s, 1), s.lag_s, s.lag_bytes, round(s.changes_per_s, 1))
                    for s in history
                ],
            },
        }
    )


def _lsn(lsn: Lsn | None) -> str | None:
    return None if lsn is None else format_lsn(lsn)


def _stream(vitals: Vitals, history: History) -> dict[str, object]:
    progress, counts = vitals.progress, vitals.counts
    return {
        "changesPerSecond": round(history.changes_per_s, 1),
        "transactions": counts.transactions,
        "changes": counts.changes,
        "batches": counts.batches,
        "replays": counts.replays,
        "retries": counts.retries,
        "streams": counts.streams,
        "heartbeatSeconds": vitals.heartbeat.duration_s,
        "received": None if progress is None else format_lsn(progress.received),
        "checkpoint": None if progress is None else format_lsn(progress.checkpoint),
        "reached": None if progress is None else format_lsn(progress.reached),
        "confirmed": None if progress is None else format_lsn(progress.confirmed),
        "queuedBytes": 0 if progress is None else progress.queued_bytes,
        "spooledBytes": 0 if progress is None else progress.spooled_bytes,
        "spooledTransactions": 0 if progress is None else progress.spooled_transactions,
    }


def _wal(vitals: Vitals) -> dict[str, object]:
    wal = vitals.wal
    return {
        "sourceLsn": _lsn(wal.source_lsn),
        "status": wal.status,
        "retainedBytes": wal.retained_bytes,
        "safeBytes": wal.safe_bytes,
        "used": wal.used,
        "secondsLeft": wal.seconds_left,
    }


def _copy(vitals: Vitals) -> dict[str, object]:
    copy = vitals.copy
    return {
        "tables": copy.tables,
        "tablesDone": copy.tables_done,
        "chunks": copy.chunks,
        "chunksDone": copy.chunks_done,
        "rows": copy.rows,
        "estimatedRows": copy.estimated_rows,
    }


def _tables(vitals: Vitals) -> list[dict[str, object]]:
    return [
        {
            "name": f"{schema}.{name}",
            "received": counts.received.total,
            "inserts": counts.applied.insert,
            "updates": counts.applied.update,
            "deletes": counts.applied.delete,
            "truncates": counts.applied.truncate,
            "folded": counts.folded,
            "lastChange": iso(unix_of_commit(counts.commit_time)) if counts.commit_time else None,
        }
        for (schema, name), counts in sorted(vitals.counts.tables.items())
    ]

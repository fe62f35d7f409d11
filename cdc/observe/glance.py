"""Everything that the status page shows, as one JSON object: from memory alone, no row's value.

A number that is not known is null, never nought.
"""

from collections.abc import Iterator

import orjson

from cdc import __version__
from cdc.counts import TableCounts
from cdc.lsn import Lsn, format_lsn
from cdc.observe.health import assess, iso
from cdc.observe.history import INTERVAL_S, History
from cdc.observe.now import Now, unix_of_commit
from cdc.observe.verdict import Verdict, heed, judge
from cdc.vitals import Vitals


def glance(vitals: Vitals, history: History, now: Now, max_lag_s: float) -> bytes:
    """Return what there is to see, as JSON."""
    health = assess(vitals, now, max_lag_s)
    return orjson.dumps(
        {
            "version": __version__,
            "time": now.unix_s,
            "since": history.since_unix_s,
            "slot": vitals.slot,
            "phase": vitals.phase,
            "verdict": _finding(judge(vitals, health, now, max_lag_s)),
            "heed": [_finding(found) for found in heed(vitals)],
            "health": orjson.Fragment(health.as_json()),
            "maxLagSeconds": max_lag_s,
            "stream": _stream(vitals, history, now),
            "wal": _wal(vitals),
            "copy": _copy(vitals),
            "target": _target(vitals, now),
            "verification": _verification(vitals),
            "tables": list(_tables(vitals)),
            "history": {
                "intervalSeconds": INTERVAL_S,
                "samples": [
                    (round(s.unix_s, 1), _rounded(s.lag_s), s.lag_bytes, round(s.changes_per_s, 1))
                    for s in history
                ],
            },
        }
    )


def _finding(found: Verdict) -> dict[str, object]:
    return {
        "mood": found.mood,
        "title": found.title,
        "detail": found.detail,
        "next": found.next or None,
    }


def _lsn(lsn: Lsn | None) -> str | None:
    return None if lsn is None else format_lsn(lsn)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _unix(at_s: float, now: Now) -> float | None:
    """Return a moment as Unix time; a moment of nought never was."""
    return round(now.unix_of(at_s), 1) if at_s else None


def _stream(vitals: Vitals, history: History, now: Now) -> dict[str, object]:
    progress, counts, source_lsn = vitals.progress, vitals.counts, vitals.wal.source_lsn
    told: dict[str, object] = {
        "since": _unix(vitals.streamed_at_s, now) if vitals.streams else None,
        "changesPerSecond": round(history.changes_per_s, 1),
        "transactions": counts.transactions,
        "changes": counts.changes,
        "batches": counts.batches,
        "replays": counts.replays,
        "retries": counts.retries,
        "streams": counts.streams,
        "repairs": counts.repairs,
        "heartbeatSeconds": vitals.heartbeat.duration_s,
        "appliedAt": _unix(counts.applied_at_s, now),
    }
    if progress is None:
        return told
    behind = None if source_lsn is None else max(source_lsn - progress.received, 0)
    return told | {
        "received": format_lsn(progress.received),
        "checkpoint": format_lsn(progress.checkpoint),
        "reached": format_lsn(progress.reached),
        "confirmed": format_lsn(progress.confirmed),
        "heardAt": _unix(progress.heard_at_s, now),
        "toReceiveBytes": behind,
        "toApplyBytes": max(progress.received - progress.reached, 0),
        "queuedBytes": progress.queued_bytes,
        "spooledBytes": progress.spooled_bytes,
        "spooledTransactions": progress.spooled_transactions,
    }


def _wal(vitals: Vitals) -> dict[str, object]:
    wal, progress = vitals.wal, vitals.progress
    end = wal.source_lsn
    if end is not None and progress is not None:
        end = max(end, progress.received)  # which came after the source was asked
    return {
        "sourceLsn": _lsn(end),
        "status": wal.status,
        "retainedBytes": wal.retained_bytes,
        "safeBytes": wal.safe_bytes,
        "used": wal.used,
        "bytesPerSecond": wal.rate,
        "secondsLeft": wal.seconds_left,
    }


def _copy(vitals: Vitals) -> dict[str, object]:
    copy = vitals.copy
    return {
        "running": vitals.copying,
        "tables": copy.tables,
        "tablesDone": copy.tables_done,
        "chunks": copy.chunks,
        "chunksDone": copy.chunks_done,
        "rows": copy.rows,
        "bytes": copy.bytes,
        "estimatedRows": copy.estimated_rows,
    }


def _target(vitals: Vitals, now: Now) -> dict[str, object]:
    return {
        "askedAt": _unix(vitals.target.last_s, now),
        "wakeUps": vitals.target.wake_ups,
        "awakeSeconds": round(vitals.target.seconds(now.at_s), 1),
        "quarantinedRows": vitals.counts.quarantined,
        "openEntries": vitals.counts.open_entries,
    }


def _verification(vitals: Vitals) -> dict[str, object] | None:
    """Return what the last one found, and all that is known to differ; None: there was none."""
    found = vitals.verifications.last
    if found is None:
        return None
    return {
        "lsn": format_lsn(found.lsn),
        "at": round(found.at_unix_s, 1),
        "tables": found.tables,
        "rows": found.rows,
        "only": found.only,
        "equal": found.equal,
        "differing": sorted(vitals.verifications.differing),
    }


def _tables(vitals: Vitals) -> Iterator[dict[str, object]]:
    """Yield the tables that are copied, and those of which changes have come."""
    nothing = TableCounts()
    for name in sorted(vitals.rows.keys() | vitals.counts.tables.keys()):
        counts = vitals.counts.tables.get(name, nothing)
        changed = counts.commit_time
        yield {
            "schema": name[0],
            "name": name[1],
            "rows": vitals.rows.get(name),
            "received": counts.received.total,
            "applied": counts.applied.total,
            "inserts": counts.applied.insert,
            "updates": counts.applied.update,
            "deletes": counts.applied.delete,
            "truncates": counts.applied.truncate,
            "folded": counts.folded,
            "lastChange": iso(unix_of_commit(changed)) if changed else None,
        }

"""What the target explains, of a change that has left the source or could: the first that fits.

Pure functions of the facts. None from `judge_target` means that nobody is seen to hold it back.
"""

from cdc.assure.explain.facts import MOSTLY, SourceFacts, TargetFacts
from cdc.assure.explain.findings import Finding, Stage
from cdc.assure.explain.waits import UNREAD
from cdc.postgres.blockers import blockers_of, end_of
from cdc.sizes import readable_bytes, readable_seconds

UNSEEN = (
    "whether it replies is hidden from our role on the source (as a superuser there: grant"
    " pg_read_all_stats to it)"
)

_SHOWN = 3

# A compute that is awake answers sooner, from the other end of the world too.
_WAKING_S = 2.0


def judge_target(source: SourceFacts, target: TargetFacts) -> Finding | None:
    """Return where a change is held back on its way into the target; None: it is not seen where."""
    for check in (_away, _locked, _copies, _busy, _wakes, _unread, _holds):
        finding = check(source, target)
        if finding is not None:
            return finding
    return None


def _away(_source: SourceFacts, target: TargetFacts) -> Finding | None:
    if target.problem is None:
        return None
    tried = f"after {readable_seconds(target.connected_s)}: {target.problem}"
    if target.refused:
        return Finding(
            Stage.TARGET_AWAY,
            f"the target refuses a connection {tried}",
            "cdc check  # then mend CDC_TARGET_DSN, or the role's rights",
        )
    return Finding(
        Stage.TARGET_AWAY,
        f"the target cannot be reached from here, {tried}",
        "wake it or start it (Neon: console, Computes): the daemon tries again by itself, at least"
        " every 30 s",
    )


def _locked(_source: SourceFacts, target: TargetFacts) -> Finding | None:
    for blocked in target.blocked:
        since = "" if blocked.waiting.idle_s is None else readable_seconds(blocked.waiting.idle_s)
        return Finding(
            Stage.TARGET_LOCK,
            f"the daemon's session PID {blocked.waiting.pid} waits for a lock"
            f"{f' on {blocked.lock}' if blocked.lock else ''}{f', for {since}' if since else ''}:"
            f" held by {blockers_of(blocked.blockers)}",
            end_of(blocked.blockers, "target"),
        )
    return None


def _copies(source: SourceFacts, target: TargetFacts) -> Finding | None:
    if not target.copying:
        return None
    more = len(target.copying) - _SHOWN
    tables = ", ".join(target.copying[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
    for blocked in source.creating:
        return Finding(
            Stage.SOURCE_TRANSACTION,
            f"the copy of {tables} waits for {blockers_of(blocked.blockers)}: until it begins,"
            " nothing is confirmed beyond the checkpoint",
            end_of(blocked.blockers, "source"),
        )
    return Finding(
        Stage.COPY,
        f"tables are being copied: {tables}; the stream stands still while chunks are written, and"
        f" {len(source.copiers)} sessions on the source read them",
        "cdc status  # shows how far the copies are; smaller chunks hold the stream up for less"
        " time (CDC_SNAPSHOT_CHUNK_BYTES)",
    )


def _busy(_source: SourceFacts, target: TargetFacts) -> Finding | None:
    share = target.share(busy=True)
    if share <= MOSTLY:
        return None
    busy = [s for look in target.sessions for s in look if s.state == "active"]
    waits = sorted({f"{s.wait_type}/{s.wait}" for s in busy if s.wait_type not in {None, "Client"}})
    on = f", waiting for {', '.join(waits[:3])}" if waits else ", computing"
    return Finding(
        Stage.TARGET_BUSY,
        f"the target works on what the daemon has sent: session PID {busy[-1].pid} was busy in"
        f" {share:.0%} of the looks{on}",
        "wait; if it stays so: a larger compute, and on the target: select relname, n_dead_tup"
        " from pg_stat_user_tables order by 2 desc;  -- and indexes that nobody reads",
    )


def _wakes(_source: SourceFacts, target: TargetFacts) -> Finding | None:
    if target.connected_s < _WAKING_S or any(target.sessions):
        return None
    return Finding(
        Stage.TARGET_AWAY,
        f"the target took {readable_seconds(target.connected_s)} to let us in, and the daemon has"
        " no session there: it was asleep, and wakes up",
        "cdc explain lag  # in a moment, again",
    )


def _unread(source: SourceFacts, target: TargetFacts) -> Finding | None:
    sender = source.sender
    if sender is None or source.share_waiting(UNREAD) <= MOSTLY:
        return None
    return Finding(
        Stage.NETWORK,
        f"walsender PID {sender.pid} has more to send than the daemon at {sender.client} reads,"
        f" and the daemon's session on the target is idle in {target.share(busy=False):.0%} of the"
        f" looks: the line or the daemon's processor is the limit"
        f" (a round trip from here: {1000 * source.round_trip_s:.0f} ms)",
        "top -b -n 1 | grep cdc  # on the daemon's machine: near 100 % of a core it is the daemon,"
        " else the line; put the daemon next to the source",
    )


def _holds(source: SourceFacts, target: TargetFacts) -> Finding | None:
    sender = source.sender
    if sender is None or not source.sent_all:
        return None
    had = "walsender has sent everything"
    unseen = "; " + UNSEEN if sender.hidden else ""
    if sender.received is not None and sender.applied is not None:
        ahead = max(sender.received - sender.applied, 0)
        had = f"daemon replies, and has {readable_bytes(ahead)} that it has not applied"
    if not any(target.sessions):
        return Finding(
            Stage.DAEMON,
            f"the {had}; it has no session on the target: it connects, or cannot, or is frozen"
            f"{unseen}",
            "read the daemon's log: `trying again` names the error",
        )
    return Finding(
        Stage.DAEMON,
        f"the {had}; its session on the target waits for it in {target.share(busy=False):.0%} of"
        f" the looks: it folds changes, holds them for a copy, or is frozen{unseen}",
        "ps -C cdc -o pid,stat,pcpu,etime,args  # on the daemon's machine: T is stopped, near 100 %"
        " of a core it folds; else read its log",
    )

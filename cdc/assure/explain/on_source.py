"""What the source alone explains, in the order of a change's way: the first that fits.

Pure functions of the facts. None from `judge_source` means that the change has left the source, or
could: then the target has to be asked.
"""

from cdc.assure.explain.facts import MOSTLY, SourceFacts
from cdc.assure.explain.findings import Finding, Stage
from cdc.assure.explain.waits import IDLE, STANDBY, UNREAD
from cdc.lsn import format_lsn
from cdc.postgres.blockers import blockers_of, end_of
from cdc.sizes import readable_bytes, readable_seconds
from cdc.source.lease import is_daemon

# A burst that is due begins within a second, and then takes as long as it takes.
_BURST_S = 10.0


def judge_source(facts: SourceFacts) -> Finding | None:
    """Return where a change is held back before it has left the source; None: nowhere."""
    for check in (
        _no_slot,
        _lost,
        _created,
        _nobody_streams,
        _another_consumer,
        _standby,
        _decodes,
        _silent,
        _gathers,
    ):
        finding = check(facts)
        if finding is not None:
            return finding
    return None


def _no_slot(facts: SourceFacts) -> Finding | None:
    if facts.lag is not None:
        return None
    return Finding(
        Stage.SLOT,
        f"the source has no slot {facts.slot}: nothing is copied",
        "cdc init  # makes it; `cdc slot list` shows those that there are",
    )


def _lost(facts: SourceFacts) -> Finding | None:
    if facts.lag is None or facts.lag.wal_status != "lost":
        return None
    return Finding(
        Stage.SLOT,
        f"slot {facts.slot} is lost: the source has removed WAL that it needs",
        "cdc check  # shows the statement that leads to a new copy; or let the daemon make one:"
        " export CDC_SOURCE_ON_SLOT_LOST=resync",
    )


def _created(facts: SourceFacts) -> Finding | None:
    if facts.last.confirmed is not None:
        return None
    for blocked in facts.creating:
        return Finding(
            Stage.SOURCE_TRANSACTION,
            f"slot {facts.slot} is being made, and waits for {blockers_of(blocked.blockers)}",
            end_of(blocked.blockers, "source"),
        )
    return None


def _nobody_streams(facts: SourceFacts) -> Finding | None:
    if facts.last.holder is not None:
        return None
    return Finding(
        Stage.DAEMON,
        f"nobody streams from slot {facts.slot}: {_behind(facts)}",
        "cdc run  # if it should be running, its log says why it does not stream",
    )


def _another_consumer(facts: SourceFacts) -> Finding | None:
    sender = facts.sender
    if sender is not None and is_daemon(sender.application):
        return None
    return Finding(
        Stage.DAEMON,
        f"slot {facts.slot} is read by PID {facts.last.holder}, which is no daemon of ours:"
        f" {facts.last.consumer or 'unnamed'}",
        f"select pg_terminate_backend({facts.last.holder});  -- on the source, if it may be ended;"
        " or give the daemon a slot of its own (CDC_SOURCE_SLOT)",
    )


def _standby(facts: SourceFacts) -> Finding | None:
    if facts.sender is None or facts.share_waiting(STANDBY) <= MOSTLY:
        return None
    return Finding(
        Stage.SLOT,
        f"walsender PID {facts.sender.pid} waits for a standby of the source"
        " (synchronized_standby_slots), which has not got this WAL yet",
        "select slot_name, active from pg_replication_slots where slot_type = 'physical';"
        "  -- on the source: bring that standby back, or take it out of the setting",
    )


def _decodes(facts: SourceFacts) -> Finding | None:
    sender = facts.sender
    if sender is None or facts.sent_all or facts.share_waiting(UNREAD, *IDLE) >= MOSTLY:
        return None
    looks = len(facts.looks)
    at = "" if sender.sent is None else f" at {format_lsn(sender.sent)}"
    seen = (
        f"walsender PID {sender.pid} decodes{at}: busy in"
        f" {looks - round(looks * facts.share_waiting(UNREAD, *IDLE))} of {looks} looks,"
        f" {_behind(facts)}"
    )
    first, last = facts.first.spill, facts.last.spill
    if last is None or not last.bytes:
        return Finding(
            Stage.DECODING,
            seen,
            "wait: decoding takes one core of the source, and a row filter or a larger compute"
            " changes how long",
        )
    grown = last.bytes - (first.bytes if first is not None else 0)
    return Finding(
        Stage.DECODING,
        f"{seen}; large transactions go by way of its disk: {readable_bytes(last.bytes)} of"
        f" {last.transactions} of them, {readable_bytes(grown)} just now"
        f" (logical_decoding_work_mem is {facts.work_mem})",
        "wait: it is sent once it is decoded. If there are many of them: add"
        " options=-c%20logical_decoding_work_mem%3D256MB to CDC_SOURCE_DSN, start the daemon anew",
    )


def _silent(facts: SourceFacts) -> Finding | None:
    sender = facts.sender
    if sender is None or not facts.silent:
        return None
    unread = facts.share_waiting(UNREAD) > MOSTLY
    return Finding(
        Stage.NETWORK,
        f"the daemon at {sender.client} has not said a word for"
        f" {readable_seconds(facts.last.at_s - facts.first.at_s)}"
        f"{', and does not read what walsender' if unread else '; walsender'}"
        f" PID {sender.pid} {'sends' if unread else 'waits for it'}: it is frozen, or the network"
        f" is cut: {_behind(facts)}",
        "ps -C cdc -o pid,stat,etime,args  # on the daemon's machine: T is stopped, D waits for a"
        " disk; else look at the network between the two",
    )


def _gathers(facts: SourceFacts) -> Finding | None:
    interval_s = facts.flush_interval_s
    if not interval_s or facts.lag is None or not facts.sent_all or facts.spooled is not None:
        return None
    seconds = facts.lag.lag_seconds or 0.0
    if seconds > interval_s + _BURST_S:
        return None
    return Finding(
        Stage.GATHERING,
        f"changes are gathered on purpose and applied every {readable_seconds(interval_s)}"
        f" (apply.flush_interval): {_behind(facts)}",
        "wait for the next burst: what is still behind then is explained by the daemon's log;"
        " CDC_APPLY_FLUSH_INTERVAL=0 applies at once, and keeps Neon awake",
    )


def _behind(facts: SourceFacts) -> str:
    lag = facts.lag
    if lag is None:
        return "unknown"
    # How long is measured when the daemon replies.
    known = lag.lag_seconds is not None and not facts.silent
    since = f" for {readable_seconds(lag.lag_seconds)}" if known else ""
    return f"{readable_bytes(lag.lag_bytes)} are behind{since}"

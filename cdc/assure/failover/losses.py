"""Judges the source: what it has, or may have, that the target lacks.

That is a warning for who asks whether the target could take over if the source ended now, and a
loss for who promotes while the source answers: then it is there to be had.
"""

from collections.abc import Iterator

from cdc.assure.failover.facts import Facts
from cdc.assure.failover.findings import Finding, loses, warns
from cdc.assure.failover.on_source import Answer
from cdc.lsn import format_lsn
from cdc.sizes import readable_bytes, readable_seconds

_CATCH_UP = (
    "# stop what writes to the source and let the daemon come to the end; or, with the daemon"
    " stopped:\ncdc run --until-current"
)


def check_source(facts: Facts, *, promoting: bool) -> Iterator[Finding]:
    """Find what the source has, or may have, that the target lacks."""
    source, checkpoint = facts.source, facts.target.checkpoint
    if checkpoint is None:
        return
    match source.answer:
        case Answer.ANSWERS:
            yield from _ahead(facts, promoting=promoting)
        case Answer.REFUSES:
            yield loses(
                "source",
                "server",
                f"is there, and not for us ({source.problem}): what it has that the target lacks"
                " nobody here knows, and others may go on to write to it",
                "export CDC_SOURCE_DSN=…  # as of a role that it lets in",
            )
        case Answer.AWAY | Answer.UNASKED:
            age = readable_seconds(checkpoint.commit_age_s)
            time = checkpoint.commit_time
            upto = "the initial copy" if time is None else f"{time} ({age} ago)"
            yield warns(
                "source",
                "server",
                f"does not answer ({source.problem}): what it has committed after {upto} is lost,"
                " if there was any",
                "# be sure that nobody can write to it any more: it may be there for others",
            )


def _ahead(facts: Facts, *, promoting: bool) -> Iterator[Finding]:
    source, finding = facts.source, loses if promoting else warns
    slot = f"slot {facts.settings.source.slot}"
    lag, confirmed = source.lag, source.confirmed
    if lag is None or lag.wal_status == "lost":
        yield loses(
            "source",
            slot,
            "is gone or lost: what the source has committed since the checkpoint is not known",
            "# README, “When the slot is lost”: a new copy",
        )
    elif confirmed is not None and confirmed > facts.covered and facts.spooled is None:
        yield loses(
            "source",
            slot,
            f"was confirmed up to {format_lsn(confirmed)}, and nothing on this machine says that"
            f" the target has what is between {format_lsn(facts.covered)} and there",
            "# run this where the daemon runs, with its state directory (CDC_STATE_DIR)",
        )
    elif not source.caught_up:
        behind = readable_bytes(lag.lag_bytes)
        problem = f"is behind by {behind} of WAL, {readable_seconds(lag.lag_seconds)}"
        tail = "" if promoting else ": that much would be lost if the source ended now"
        yield finding("source", slot, problem + tail, _CATCH_UP)
    if promoting and source.writers:
        who = ", ".join(f"PID {s.pid} ({s.application or s.user})" for s in source.writers)
        yield loses(
            "source",
            "sessions",
            f"have transactions open that write: {who}",
            "# stop what writes to the source: from now on the target is written to",
        )

"""What an operator should know besides the verdict. Pure functions of the facts."""

from collections.abc import Iterator

from cdc.assure.explain.facts import Facts, SourceFacts, TargetFacts
from cdc.assure.explain.findings import Finding, Stage
from cdc.budget import Level, WalBudget
from cdc.lsn import parse_lsn
from cdc.postgres.blockers import blockers_of, described, end_of
from cdc.sizes import readable_bytes, readable_seconds

# A transaction that has been writing for so long is worth a word: its rows come when it ends.
LONG_S = 5.0

# Below this, what the slot retains is no matter.
_RETAINED_BYTES = 16 << 20


def remarks(facts: Facts) -> Iterator[Finding]:
    """Yield what else there is."""
    source, target = facts.source, facts.target
    if source.lag is None or not source.looks:
        return
    yield from _idle_slot(source)
    yield from _budget(source)
    yield from _spool(source)
    yield from _creating(source)
    yield from _writers(source)
    yield from _prepared(source)
    yield from _pace(source)
    if target is not None:
        yield from _on_target(target)


def _idle_slot(source: SourceFacts) -> Iterator[Finding]:
    if source.last.holder is None and not source.stands_behind:
        yield Finding(
            Stage.DAEMON,
            f"nobody streams from slot {source.slot}: what is written now will be behind",
            "cdc run",
        )


def _budget(source: SourceFacts) -> Iterator[Finding]:
    lag = source.lag
    assert lag is not None
    budget = WalBudget()
    budget.look(0.0, parse_lsn(lag.source_lsn), lag.retained_wal_bytes, lag.safe_wal_bytes)
    if budget.level is Level.CALM or budget.used is None:
        return
    yield Finding(
        Stage.SLOT,
        f"slot {source.slot} retains {readable_bytes(lag.retained_wal_bytes)} of WAL and has used"
        f" {budget.used:.0%} of what the source keeps for it: lost after"
        f" {readable_bytes(max(lag.safe_wal_bytes or 0, 0))} more",
        "cdc check  # has the statement that raises max_slot_wal_keep_size, which gains time",
    )


def _spool(source: SourceFacts) -> Iterator[Finding]:
    if source.spooled is not None:
        yield Finding(
            Stage.SPOOL,
            f"{readable_bytes(source.spooled.bytes)} in {source.spooled.transactions} transactions"
            " are queued on this machine's disk: the target was away",
            "keep state.dir and the key: they are applied in order when the target is back",
        )


def _creating(source: SourceFacts) -> Iterator[Finding]:
    for blocked in source.creating:
        yield Finding(
            Stage.SOURCE_TRANSACTION,
            f"walsender PID {blocked.waiting.pid} makes a slot, for a copy, and waits for"
            f" {blockers_of(blocked.blockers)}",
            end_of(blocked.blockers, "source"),
        )


def _writers(source: SourceFacts) -> Iterator[Finding]:
    """Yield the oldest transaction that writes, if it is old: its rows come with its commit."""
    for session in source.writers:
        # One that is hidden from us could be of any age.
        if session.transaction_s is None or session.transaction_s > LONG_S:
            yield Finding(
                Stage.SOURCE_TRANSACTION,
                f"{described(session)} has written on the source and not committed: what it wrote"
                f" comes with its commit{_kept(source)}",
                end_of([session], "source"),
            )
            return


def _prepared(source: SourceFacts) -> Iterator[Finding]:
    for gid, age_s in source.prepared:
        if age_s > LONG_S:
            yield Finding(
                Stage.SOURCE_TRANSACTION,
                f"{len(source.prepared)} prepared transactions on the source, the oldest, {gid},"
                f" for {readable_seconds(age_s)}: no slot can be made, and no table copied, before"
                f" it ends{_kept(source)}",
                "select gid, owner, prepared from pg_prepared_xacts;  -- on the source; then COMMIT"
                " PREPARED or ROLLBACK PREPARED",
            )
            return


def _kept(source: SourceFacts) -> str:
    lag = source.lag
    kept = (lag.retained_wal_bytes or 0) - (lag.lag_bytes or 0) if lag is not None else 0
    return f"; the slot retains {readable_bytes(kept)} for it" if kept > _RETAINED_BYTES else ""


def _pace(source: SourceFacts) -> Iterator[Finding]:
    """Whether what is behind gets less, where the confirmed position moved while we looked."""
    first, last = source.first, source.last
    seconds = last.at_s - first.at_s
    if first.confirmed is None or last.confirmed is None or not source.stands_behind:
        return
    confirmed = (last.confirmed - first.confirmed) / seconds if seconds else 0.0
    if confirmed <= 0:
        return
    written = (last.written - first.written) / seconds
    seen = (
        f"{readable_bytes(round(confirmed))}/s are confirmed, {readable_bytes(round(written))}/s"
        " are written"
    )
    if confirmed > written:
        left_s = (last.written - last.confirmed) / (confirmed - written)
        yield Finding(Stage.PACE, f"{seen}: level in about {readable_seconds(left_s)}", "wait")
    else:
        yield Finding(Stage.PACE, f"{seen}: it gets more", "")


def _on_target(target: TargetFacts) -> Iterator[Finding]:
    if target.quarantined:
        yield Finding(
            Stage.QUARANTINE,
            f"{target.quarantined} changes wait in quarantine: their rows are behind whatever the"
            " lag says",
            "cdc quarantine list",
        )
    if target.copying:
        yield Finding(
            Stage.COPY,
            f"not completely copied: {', '.join(target.copying)}",
            "cdc status",
        )

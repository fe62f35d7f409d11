"""A daemon's vitals, as a pipeline that is idle and has nothing left to do leaves them."""

from cdc.awake import Wakefulness
from cdc.lsn import Lsn
from cdc.observe.now import Now
from cdc.progress import Progress
from cdc.vitals import Phase, Vitals

NOW = Now(at_s=10_000.0, unix_s=1_800_000_000.0)

MAX_LAG_S = 60.0

# Where all that was committed ends.
END = Lsn(0x2000)


def caught_up() -> Vitals:
    """Give those of a daemon that has streamed for an hour and applied something a minute ago.

    That was a transaction which the source had committed two hours ago.
    """
    target = Wakefulness()
    target.begin(NOW.at_s - 3600)
    target.end(NOW.at_s - 60)
    target.answers = True
    vitals = Vitals("cdc_credit", target, phase=Phase.STREAMING, source_answers=True)
    vitals.streamed_at_s = NOW.at_s - 3600
    vitals.counts.applied_at_s = NOW.at_s - 60
    vitals.counts.open_entries = 0
    vitals.heartbeat.arrived = True
    vitals.wal.look(NOW.at_s, END, 0, None)
    vitals.progress = Progress(
        END,
        END,
        END,
        commit_time=committed(2 * 3600),
        heard_at_s=NOW.at_s - 1,
        counts=vitals.counts,
        heartbeat=vitals.heartbeat,
    )
    return vitals


def committed(ago_s: float) -> int:
    """Give the commit time of a transaction of so long ago."""
    return NOW.source_us - int(ago_s * 1e6)


def later(seconds: float) -> Now:
    """Give a moment after `NOW`."""
    return Now(NOW.at_s + seconds, NOW.unix_s + seconds)


def fall_behind(vitals: Vitals, ago_s: float) -> Progress:
    """Let a transaction have come so long ago that the target has not taken yet."""
    progress = vitals.progress
    assert progress is not None
    progress.begin(committed(ago_s))
    progress.receive(Lsn(END + 0x100))
    vitals.wal.look(NOW.at_s, Lsn(END + 0x100), 0x100, None)
    return progress

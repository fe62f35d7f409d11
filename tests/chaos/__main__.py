"""`python -m tests.chaos`: the crash matrix for a bounded time, and a table of what came of it.

Every fault happens in turn, in an order that the seed decides, to a daemon under load. After each,
what was committed by then has to reach the target, while a reader looks for transactions that are
lost, doubled or half there. At the end both sides are compared, row for row. Exit 0: all zeros.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.chaos.audit import FILL, SCHEMA, Reader, Writer, reading, writing
from tests.chaos.faults import TROUBLES, Trouble
from tests.chaos.stage import Stage, make_stage
from tests.databases import migrate, run_sql
from tests.pair import make_pair, same_rows
from tests.process import ok
from tests.servers import SessionServers, Versions

RECOVERED = "select coalesce(max(tx), 0) >= %s from credit.audit"
COPIED = "select not exists (select from cdc.copy where completed_at is null)"


@dataclass(slots=True)
class Outcome:
    """What came of one fault, each time that it happened."""

    fault: str
    times: int = 0
    recovered: int = 0
    seconds: list[float] = field(default_factory=list)
    lost: int = 0
    doubled: int = 0
    half_seen: int = 0

    @property
    def well(self) -> bool:
        """All zeros, and it came back each time."""
        return self.recovered == self.times and not (self.lost or self.doubled or self.half_seen)


def main() -> None:
    """Run the matrix, print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", default="", help="faults whose names hold this")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args()
    troubles = [trouble for trouble in TROUBLES if options.only in trouble.name]
    servers = SessionServers()
    with tempfile.TemporaryDirectory() as folder:
        try:
            with make_pair(servers, Versions(), Path(folder) / "state", credit=False) as pair:
                migrate(pair, SCHEMA)
                run_sql(pair.source_dsn, FILL)
                ok(pair, "init")
                with make_stage(pair) as stage:
                    outcomes = run(stage, troubles, options.seconds, options.seed)
        finally:
            servers.close()
    if options.json:
        report = json.dumps({"seed": options.seed, "faults": [asdict(o) for o in outcomes]}) + "\n"
    else:
        report = table(outcomes, options.seed)
    sys.stdout.write(report)
    sys.exit(0 if all(outcome.well for outcome in outcomes) else 1)


def run(stage: Stage, troubles: list[Trouble], seconds: float, seed: int) -> list[Outcome]:
    """Let faults happen for so long; compare both sides at the end."""
    chance = random.Random(seed)
    outcomes = {trouble.name: Outcome(trouble.name) for trouble in troubles}
    end = time.monotonic() + seconds
    with writing(Writer(stage.pair.source_dsn, seed)) as writer:
        stage.start()
        stage.wait_for(RECOVERED, 1)
        while time.monotonic() < end:
            for trouble in chance.sample(troubles, len(troubles)):
                if time.monotonic() >= end:
                    break
                _happen(stage, writer, trouble, outcomes[trouble.name], chance)
    last = Outcome("both sides equal at the end", times=1)
    stage.wait_for(RECOVERED, writer.committed)
    stage.wait_for(COPIED)
    stage.close()
    ok(stage.pair, "run", "--until-current")
    same_rows(stage.pair)
    last.recovered = 1
    return [*(o for o in outcomes.values() if o.times), last]


def _happen(
    stage: Stage, writer: Writer, trouble: Trouble, outcome: Outcome, chance: random.Random
) -> None:
    sys.stderr.write(f"{trouble.name}\n")
    stage.start()
    with reading(stage.pair.target_dsn) as reader:
        time.sleep(chance.uniform(0.1, 0.5))
        trouble.happens(stage, chance)
        since, committed = time.monotonic(), writer.committed
        stage.start()
        well = stage.wait_for(RECOVERED, committed) and stage.wait_for(COPIED)
        outcome.seconds.append(time.monotonic() - since)
    outcome.times += 1
    outcome.recovered += well
    _note(outcome, reader)
    if not well:
        sys.stderr.write(f"not recovered: {stage.ends}\n{stage.daemon.log()[-3000:]}\n")
        stage.ends.clear()


def _note(outcome: Outcome, reader: Reader) -> None:
    seen = reader.seen
    outcome.lost = max(outcome.lost, seen.lost, seen.went_back)
    outcome.doubled = max(outcome.doubled, seen.doubled)
    outcome.half_seen = max(outcome.half_seen, seen.half)


def table(outcomes: list[Outcome], seed: int) -> str:
    """Lay outcomes out for people."""
    heads = ("fault", "times", "recovered", "median s", "worst s", "lost", "doubled", "half seen")
    rows = [
        (
            o.fault,
            str(o.times),
            str(o.recovered),
            f"{statistics.median(o.seconds):.1f}" if o.seconds else "",
            f"{max(o.seconds):.1f}" if o.seconds else "",
            str(o.lost),
            str(o.doubled),
            str(o.half_seen),
        )
        for o in outcomes
    ]
    widths = [max(len(row[n]) for row in (heads, *rows)) for n in range(len(heads))]
    lines = [
        "  ".join(
            cell.ljust(width) if n == 0 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (heads, *rows)
    ]
    return "\n".join([*lines, "", f"seed {seed}: `make chaos ARGS='--seed {seed}'`", ""])


if __name__ == "__main__":
    main()

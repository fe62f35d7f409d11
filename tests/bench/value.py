"""`value`: single values that are large by themselves, and the memory that the daemon needs."""

from dataclasses import dataclass
from typing import LiteralString

import psycopg

from cdc.demo.display import Display
from tests.bench.rig import drain, prepared, verify
from tests.pair import Pair

# COPY and the WAL take no field or record of a gigabyte.
TEXT_MB = 200
JSON_MB = 8

_PLAIN = "repeat(md5('x'), %s::int * 32768)"
_ESCAPED = "repeat(left(md5('x'), 31) || E'\\n', %s::int * 32768)"
_JSON = "(select jsonb_agg(md5(n::text) || E'\\n') from generate_series(1, %s::int * 26000) n)"

_INSERT = """
insert into credit.audit_events (actor, entity, entity_key, action, payload)
values ('bench', 'application', '', {text}, {json})
"""
# The last of so many rows that they are copied and not written one by one.
_INSERT_AMONG_OTHERS = """
insert into credit.audit_events (actor, entity, entity_key, action)
select 'bench', 'application', '', case when n < 30 then 'created' else {text} end
from generate_series(1, 30) n
"""
_SIZE = """
select octet_length(action) + coalesce(octet_length(payload::text), 0)
  from credit.audit_events order by id desc limit 1
"""
VALUES: dict[str, tuple[LiteralString, int | None]] = {
    "text": (_INSERT.format(text=_PLAIN, json="null"), None),
    "text with line feeds": (_INSERT.format(text=_ESCAPED, json="null"), None),
    "text in a copy": (_INSERT_AMONG_OTHERS.format(text=_PLAIN), None),
    "text with line feeds in a copy": (_INSERT_AMONG_OTHERS.format(text=_ESCAPED), None),
    "jsonb": (_INSERT.format(text="'created'", json=_JSON), JSON_MB),
}


@dataclass(slots=True)
class Figures:
    """What was measured; the fields are those of `--json`."""

    value: str
    bytes: int
    seconds: float
    peak_rss_bytes: int
    idle_rss_bytes: int
    """The peak of a run without a change."""
    copies: float
    """How often the value was in memory at the peak."""


def run(megabytes: int, display: Display) -> list[Figures]:
    """Send one value after the other through the daemon and compare both sides."""
    with prepared(display) as pair:
        idle = drain(pair, lambda: None).peak_rss_bytes
        figures = []
        for what, (statement, fixed) in VALUES.items():
            display.show("building", what)
            size = _insert(pair, statement, fixed or megabytes)
            display.show("draining", what)
            drained = drain(pair, lambda: None)
            display.say(f"{what}: {drained.peak_rss_bytes >> 20} MB at the peak")
            peak = drained.peak_rss_bytes
            figures.append(Figures(what, size, drained.seconds, peak, idle, (peak - idle) / size))
        verify(pair, display)
        display.say("equal on both sides")
    return figures


def _insert(pair: Pair, statement: LiteralString, megabytes: int) -> int:
    with psycopg.connect(pair.source_dsn) as source:
        source.execute(statement, (megabytes,))
        row = source.execute(_SIZE).fetchone()
    assert row is not None
    return int(row[0])

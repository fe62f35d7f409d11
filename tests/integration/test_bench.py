"""The comparison of `make bench` at its smallest: that it runs, and finds what is not equal."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from cdc.demo.display import Display
from tests.bench import contest, plot
from tests.bench.arena import Sides, prepared, started
from tests.bench.bench import Bench
from tests.bench.equality import contents
from tests.bench.figures import Document
from tests.bench.machine import this_machine
from tests.bench.report import report
from tests.bench.workloads import accounts, insert
from tests.servers import DEFAULT_MAJOR, Role, find_installation, missing

MAJORS: dict[Role, int] = {"source": DEFAULT_MAJOR, "target": DEFAULT_MAJOR}

CHANGES = (
    "update credit.offers set fees = '{1}' where id = md5('offer:1')::uuid",
    "delete from credit.offers where id = md5('offer:1')::uuid",
    "insert into credit.audit_events (entity, entity_key, action) values ('x', 'x', 'x')",
)


@pytest.fixture(scope="module")
def sides() -> Iterator[Sides]:
    """Two servers of the bench."""
    if find_installation(DEFAULT_MAJOR, "source") is None:
        pytest.skip(missing(DEFAULT_MAJOR))
    with started(MAJORS) as both:
        yield both


def test_each_contestant_drains_and_is_measured(sides: Sides, tmp_path: Path) -> None:
    """One round of a small backlog: all that take part are in the document, table and plot."""
    with Display() as display:
        drains = list(contest.run(Bench(sides, display, 1), "insert", insert(40)))

    assert [one.contestant for one in drains] == ["ceiling", "native", "cdc"]
    assert all(one.changes == 40 and one.seconds > 0 for one in drains)
    assert {one.part for one in drains[-1].spent} == {"contestant", "walsender", "source", "target"}
    document = Document(this_machine(MAJORS), {}, drains)
    assert Document.decode(document.encode()) == document
    assert "ceiling" in report(document)
    plot.save(document, tmp_path)
    assert "changes/s" in (tmp_path / "bench.svg").read_text()


def test_a_row_that_differs_is_found(sides: Sides) -> None:
    """A target with another value, a row less or a row more is not equal."""
    with prepared(sides, "bench_unequal", rows=accounts(2)) as arena:
        source = contents(arena.source_admin_dsn)
        for number, change in enumerate(CHANGES):
            with arena.lane(f"bench_unequal_{number}") as lane:
                source.assert_equal(lane.target_admin_dsn)
                with psycopg.connect(lane.target_admin_dsn) as target:
                    target.execute("set session_replication_role = replica")
                    target.execute(change.encode())
                with pytest.raises(AssertionError, match=r"not the same rows.*(offers|audit)"):
                    source.assert_equal(lane.target_admin_dsn)

"""What the status page is told: all of it from the daemon's memory, none of it a row's value."""

from collections.abc import Callable
from typing import TypedDict

import msgspec
import pytest

from cdc.changes.copies import QualifiedName
from cdc.counts import Operations, Tally
from cdc.lsn import Lsn
from cdc.observe.glance import glance
from cdc.observe.history import History
from cdc.observe.now import Now
from cdc.progress import CopyProgress
from cdc.verified import Verified
from cdc.vitals import Phase, Vitals
from tests.unit.daemon import END, MAX_LAG_S, NOW, caught_up, committed, fall_behind, later


class Finding(TypedDict):
    """A verdict, or something to be heeded."""

    mood: str
    title: str
    detail: str
    next: str | None


class Told(TypedDict):
    """The parts of the answer that are looked at here."""

    verdict: Finding
    heed: list[Finding]
    health: dict[str, str | float | None]
    stream: dict[str, str | float | None]
    wal: dict[str, str | float | None]
    copy: dict[str, int | bool]
    target: dict[str, float | None]
    verification: dict[str, object] | None
    tables: list[dict[str, str | int | None]]
    since: float | None
    history: dict[str, float | list[list[float | None]]]


def tell(vitals: Vitals, now: Now = NOW) -> Told:
    """Give what the page is told."""
    return msgspec.json.decode(glance(vitals, History(), now, MAX_LAG_S), type=Told)


def write(vitals: Vitals, table: QualifiedName, received: Operations, net: Operations) -> None:
    """Let a batch have been applied that is of one table, half a minute ago."""
    batch = [(table, Tally(received, net))]
    vitals.counts.receive(batch)
    vitals.counts.apply(batch, committed(30), NOW.at_s, replayed=False)


def test_an_idle_pipeline() -> None:
    """In sync, nothing behind on either side of the daemon, nothing to be heeded."""
    told = tell(caught_up())
    assert told["verdict"] == {
        "mood": "good",
        "title": "In sync",
        "detail": "the target has all that was committed",
        "next": None,
    }
    assert told["heed"] == []
    assert told["health"]["lagSeconds"] == 0
    assert (told["stream"]["toReceiveBytes"], told["stream"]["toApplyBytes"]) == (0, 0)
    assert told["stream"]["received"] == told["stream"]["reached"] == "0/2000"


def test_a_daemon_that_has_just_begun_knows_nothing() -> None:
    """Neither stream nor tables nor samples: nothing is nought that is not known."""
    vitals = caught_up()
    begun = Vitals("cdc_credit", vitals.target)
    told = tell(begun)
    assert told["verdict"]["title"] == "Starting"
    assert "received" not in told["stream"]
    assert (told["stream"]["since"], told["stream"]["appliedAt"]) == (None, None)
    assert (told["wal"]["sourceLsn"], told["wal"]["used"]) == (None, None)
    assert (told["target"]["openEntries"], told["tables"]) == (None, [])


def _starting(vitals: Vitals) -> None:
    vitals.phase = Phase.STARTING


def _stopping(vitals: Vitals) -> None:
    vitals.phase = Phase.STOPPING


def _standby(vitals: Vitals) -> None:
    vitals.phase = Phase.STANDBY


def _behind_a_little(vitals: Vitals) -> None:
    fall_behind(vitals, 2.5)


def _away_a_little(vitals: Vitals) -> None:
    fall_behind(vitals, 2.5)
    vitals.target.answers = False


def _lagging(vitals: Vitals) -> None:
    fall_behind(vitals, 180)
    vitals.counts.applied_at_s = NOW.at_s


def _target_away(vitals: Vitals) -> None:
    fall_behind(vitals, 7000)
    vitals.target.answers = False


def _nothing_comes_on(vitals: Vitals) -> None:
    fall_behind(vitals, 90)
    vitals.counts.applied_at_s = NOW.at_s - 90


def _source_away(vitals: Vitals) -> None:
    vitals.phase, vitals.source_answers = Phase.WAITING, False


def _slot_busy(vitals: Vitals) -> None:
    vitals.phase, vitals.problem, vitals.hint = Phase.WAITING, "the slot is busy", "stop the other"


def _halted(vitals: Vitals) -> None:
    vitals.phase, vitals.problem, vitals.hint = Phase.HALTED, "the slot is lost", "cdc resync"


def _copying(vitals: Vitals) -> None:
    vitals.copy = CopyProgress(tables=3, tables_done=1, rows=12_345)


def _copying_to_nowhere(vitals: Vitals) -> None:
    _copying(vitals)
    vitals.target.answers = False


def _spooled(vitals: Vitals) -> None:
    vitals.phase, vitals.target.answers = Phase.SPOOLING, False
    assert vitals.progress is not None
    vitals.progress.spooled_transactions, vitals.progress.spooled_bytes = 1234, 5_600_000
    vitals.progress.spooled_after = END


def _replayed(vitals: Vitals) -> None:
    _spooled(vitals)
    vitals.target.answers = True
    vitals.counts.applied_at_s = NOW.at_s


@pytest.mark.parametrize(
    ("happens", "mood", "title", "detail", "next_"),
    [
        (_starting, "busy", "Starting", "both databases are looked at", None),
        (_stopping, "busy", "Stopping", "the batch in hand is finished and confirmed", None),
        (
            _standby,
            "busy",
            "Standing by",
            "another daemon streams from slot cdc_credit",
            None,
        ),
        (_behind_a_little, "good", "In sync", "2.5 s behind the source", None),
        (
            _away_a_little,
            "warning",
            "In sync until now",
            "the target does not answer, 2.5 s behind the source; what comes is kept",
            "cdc check",
        ),
        (
            _lagging,
            "warning",
            "Lagging",
            "3 min behind the source, more than 60 s; it comes on",
            "cdc explain lag",
        ),
        (
            _target_away,
            "bad",
            "Stalled",
            (
                "the target does not answer, 117 min behind the source; the source keeps what is"
                " to be copied"
            ),
            "cdc check",
        ),
        (
            _nothing_comes_on,
            "bad",
            "Stalled",
            "nothing was applied for 90 s, 90 s behind the source",
            "cdc explain lag",
        ),
        (
            _source_away,
            "bad",
            "Stalled",
            "the source does not answer; it is tried again",
            "cdc check",
        ),
        (_slot_busy, "bad", "Stalled", "the slot is busy; it is tried again", "stop the other"),
        (_halted, "bad", "Halted", "the slot is lost", "cdc resync"),
        (_copying, "busy", "Copying tables", "1 of 3 tables, 12,345 rows so far", None),
        (
            _copying_to_nowhere,
            "bad",
            "Copying tables",
            "1 of 3 tables, 12,345 rows so far; the target does not answer",
            "cdc check",
        ),
        (
            _spooled,
            "bad",
            "Stalled",
            "the target does not answer; waiting: 1,234 transactions on the daemon's disk (5.6 MB)",
            "cdc check",
        ),
        (
            _replayed,
            "warning",
            "Lagging",
            (
                "the target was away and catches up: 1,234 transactions on the daemon's disk"
                " (5.6 MB)"
            ),
            "cdc explain lag",
        ),
    ],
)
def test_each_verdict(
    happens: Callable[[Vitals], None], mood: str, title: str, detail: str, next_: str | None
) -> None:
    """Each state has its sentence and, where somebody ought to do something, what to run."""
    vitals = caught_up()
    happens(vitals)
    expected = {"mood": mood, "title": title, "detail": detail, "next": next_}
    assert tell(vitals)["verdict"] == expected


def test_an_hour_of_sleep_is_in_sync() -> None:
    """A target that was left alone is shown asleep, with what it has cost, and nothing is wrong."""
    told = tell(caught_up(), later(3600))
    assert (told["health"]["neon"], told["verdict"]["mood"]) == ("asleep", "good")
    # It was last asked a minute before, and is suspended five minutes later.
    assert (told["target"]["wakeUps"], told["target"]["awakeSeconds"]) == (1, 3600 - 60 + 300)


def test_what_is_to_be_heeded() -> None:
    """A slot near its end, rows in the quarantine and open entries are said in any state."""
    vitals = caught_up()
    vitals.wal.look(NOW.at_s, END, 60, 40)
    vitals.counts.quarantined, vitals.counts.open_entries = 3, 1
    assert [(f["mood"], f["title"], f["next"]) for f in tell(vitals)["heed"]] == [
        ("warning", "WAL budget", "cdc slot list"),
        ("warning", "Quarantine", "cdc quarantine list"),
        ("warning", "Ledger", "cdc status"),
    ]
    vitals.wal.look(NOW.at_s, END, 90, 10)
    assert tell(vitals)["heed"][0]["mood"] == "bad"
    vitals.wal.status = "lost"
    assert tell(vitals)["heed"][0]["title"] == "The slot is lost"


def test_rows_that_differ() -> None:
    """They are to be heeded, whatever else is well, until they are found to be equal."""
    vitals = caught_up()
    vitals.verifications.remember(Verified(END, NOW.unix_s - 60, 3, 1000, ("credit.a",)))
    told = tell(vitals)
    assert told["verdict"]["title"] == "In sync"
    assert told["heed"] == [
        {
            "mood": "bad",
            "title": "Rows differ",
            "detail": "credit.a differs at 0/2000 from what the source has",
            "next": "cdc verify --repair",
        }
    ]
    vitals.verifications.remember(Verified(END, NOW.unix_s - 30, 1, 10, (), ("credit.a",)))
    assert tell(vitals)["heed"] == []


def test_the_last_verification() -> None:
    """Where, when, how many rows and tables, and what is known to differ; null: there was none."""
    vitals = caught_up()
    assert tell(vitals)["verification"] is None
    vitals.verifications.remember(Verified(END, NOW.unix_s - 60, 3, 1000, ("credit.a",)))
    vitals.verifications.remember(Verified(END, NOW.unix_s - 30, 1, 10, (), ("credit.b",)))
    assert tell(vitals)["verification"] == {
        "lsn": "0/2000",
        "at": NOW.unix_s - 30,
        "tables": 1,
        "rows": 10,
        "only": ["credit.b"],
        "equal": True,
        "differing": ["credit.a"],
    }


def test_the_wal_budget() -> None:
    """What is held back, what is left, and how long that lasts."""
    vitals = caught_up()
    vitals.wal.look(NOW.at_s + 10, Lsn(END + 1000), 2500, 7500)
    wal = tell(vitals)["wal"]
    assert (wal["used"], wal["safeBytes"], wal["retainedBytes"]) == (0.25, 7500, 2500)
    assert (wal["bytesPerSecond"], wal["secondsLeft"]) == (100, 75)


def test_what_has_come_is_no_less_than_where_the_source_ended() -> None:
    """The source was asked two seconds ago: what has come since is part of its WAL too."""
    vitals = caught_up()
    assert vitals.progress is not None
    vitals.progress.receive(Lsn(END + 0x100))
    told = tell(vitals)
    assert told["wal"]["sourceLsn"] == told["stream"]["received"] == "0/2100"
    assert told["stream"]["toReceiveBytes"] == 0


def test_tables_that_are_copied_and_tables_that_have_changed() -> None:
    """One line each, by name: rows by the statistics, changes as they came and as written."""
    vitals = caught_up()
    vitals.rows = {("credit", "b"): 1000, ("credit", "c"): None}
    write(vitals, ("credit", "b"), Operations(insert=5, update=7), Operations(insert=5, update=2))
    write(vitals, ("credit", "<a>"), Operations(truncate=1), Operations(truncate=1))
    tables = {str(table["name"]): table for table in tell(vitals)["tables"]}
    assert list(tables) == ["<a>", "b", "c"]
    assert tables["b"] == {
        "schema": "credit",
        "name": "b",
        "rows": 1000,
        "received": 12,
        "applied": 7,
        "inserts": 5,
        "updates": 2,
        "deletes": 0,
        "truncates": 0,
        "folded": 5,
        "lastChange": "2027-01-15T07:59:30.000+00:00",
    }
    assert (tables["<a>"]["rows"], tables["<a>"]["truncates"]) == (None, 1)
    assert (tables["c"]["rows"], tables["c"]["lastChange"]) == (None, None)


def test_a_copy_under_way() -> None:
    """How far it is, in tables, chunks, rows and bytes."""
    vitals = caught_up()
    assert not tell(vitals)["copy"]["running"]
    vitals.copy = CopyProgress(3, 1, 10, 4, 1_000, 20_000, 5_000)
    assert tell(vitals)["copy"] == {
        "running": True,
        "tables": 3,
        "tablesDone": 1,
        "chunks": 10,
        "chunksDone": 4,
        "rows": 1_000,
        "bytes": 20_000,
        "estimatedRows": 5_000,
    }


def test_the_samples_are_sent_as_they_were_taken() -> None:
    """Time, lag, WAL behind and rate, the oldest first; the page draws them."""
    vitals, history = caught_up(), History()
    history.look(vitals, NOW)
    fall_behind(vitals, 1)
    history.look(vitals, later(5))
    told = msgspec.json.decode(glance(vitals, history, later(5), MAX_LAG_S), type=Told)
    assert told["history"] == {
        "intervalSeconds": 5,
        "samples": [[NOW.unix_s, 0, 0, 0], [NOW.unix_s + 5, 6, 0x100, 0]],
    }
    assert told["since"] == NOW.unix_s

"""May the stream go on from here? Each case of slot, checkpoint and idle pair."""

from dataclasses import replace
from pathlib import Path

import pytest

from cdc.errors import PositionLost, SettingsError
from cdc.lsn import Lsn, format_lsn
from cdc.source.slot import Slot
from cdc.sync.position import IdleFile, IdlePair, check_identity, check_position
from cdc.target.checkpoint import Checkpoint, SlotIdentity

IDENTITY = SlotIdentity("cdc_credit", "7300000000000000001", 1, "postgres")


def checkpoint(lsn: int) -> Checkpoint:
    """A checkpoint of our slot."""
    return Checkpoint(IDENTITY, Lsn(lsn), epoch=1, transactions=0, changes=0, age_s=0.0)


def slot(confirmed: int | None, *, wal_status: str = "reserved", reason: str | None = None) -> Slot:
    """Our slot, on a source that has written up to 1000."""
    return Slot(
        name="cdc_credit",
        plugin="pgoutput",
        database="postgres",
        active=False,
        active_pid=None,
        consumer=None,
        wal_status=wal_status,
        restart_lsn="0/1",
        confirmed_flush_lsn=None if confirmed is None else format_lsn(confirmed),
        source_lsn=format_lsn(1000),
        lag_bytes=0,
        retained_wal_bytes=0,
        safe_wal_bytes=None,
        invalidation_reason=reason,
        failover=False,
    )


def pair(at: int, idle: int) -> IdlePair:
    """The pair: between the two the source has published nothing."""
    return IdlePair(Lsn(at), Lsn(idle))


@pytest.mark.parametrize(
    ("at", "confirmed", "known"),
    [
        pytest.param(200, 100, None, id="applied and not yet confirmed"),
        pytest.param(200, 200, None, id="confirmed what was applied"),
        pytest.param(200, None, None, id="a slot that was never confirmed"),
        pytest.param(200, 100, pair(50, 90), id="an old pair does not matter"),
        pytest.param(200, 300, pair(200, 300), id="idle since the checkpoint"),
        pytest.param(200, 250, pair(200, 300), id="the pair was saved, not yet confirmed"),
        pytest.param(250, 300, pair(200, 300), id="a checkpoint inside the empty range"),
    ],
)
def test_the_stream_goes_on(at: int, confirmed: int | None, known: IdlePair | None) -> None:
    """Nothing was published between the checkpoint and what the source may have forgotten."""
    check_position(checkpoint(at), slot(confirmed), known)


@pytest.mark.parametrize(
    ("at", "confirmed", "known"),
    [
        pytest.param(200, 300, None, id="no pair: a new machine, or its state is lost"),
        pytest.param(200, 201, None, id="a single byte that nobody knows"),
        pytest.param(100, 300, pair(200, 300), id="the target was restored to before the pair"),
        pytest.param(100, 200, pair(200, 300), id="and to before what was confirmed"),
        pytest.param(250, 400, pair(200, 300), id="confirmed beyond the pair: the target restored"),
        pytest.param(200, 301, pair(200, 300), id="a single byte beyond the pair"),
    ],
)
def test_a_gap_is_found(at: int, confirmed: int, known: IdlePair | None) -> None:
    """The source has forgotten what the target may not have; the error says which range."""
    with pytest.raises(PositionLost) as caught:
        check_position(checkpoint(at), slot(confirmed), known)
    assert format_lsn(at) in caught.value.message
    assert format_lsn(confirmed) in caught.value.message
    assert "new copy" in caught.value.hint


def test_a_slot_that_is_gone_is_a_gap() -> None:
    """Without the slot nobody knows what was published since, whatever the pair says."""
    with pytest.raises(PositionLost, match="is gone; the checkpoint is 0/C8"):
        check_position(checkpoint(200), None, pair(200, 300))


@pytest.mark.parametrize(
    ("reason", "said"), [(None, "its WAL was removed"), ("idle_timeout", "idle_timeout")]
)
def test_a_lost_slot_is_a_gap(reason: str | None, said: str) -> None:
    """A slot whose WAL is gone cannot stream, though its positions look well."""
    with pytest.raises(PositionLost, match=f"is lost .{said}.; the checkpoint is 0/C8"):
        check_position(checkpoint(200), slot(100, wal_status="lost", reason=reason), None)


@pytest.mark.parametrize("wal_status", ["extended", "unreserved"])
def test_a_slot_that_may_be_lost_soon_streams(wal_status: str) -> None:
    """As long as the WAL is there, streaming is what saves the slot."""
    check_position(checkpoint(200), slot(100, wal_status=wal_status), None)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (replace(IDENTITY, system_identifier="7300000000000000002"), "system identifier"),
        (replace(IDENTITY, timeline=2), "timeline 1"),
        (replace(IDENTITY, database="other"), "database postgres"),
    ],
)
def test_a_checkpoint_of_another_source_is_refused(found: SlotIdentity, said: str) -> None:
    """A slot of the same name on another server, timeline or database is another slot."""
    check_identity(checkpoint(200), IDENTITY)
    with pytest.raises(PositionLost, match=said):
        check_identity(checkpoint(200), found)


# The pair on disk


def test_the_pair_comes_back_from_disk(tmp_path: Path) -> None:
    """What was saved last is loaded, by another process too; no draft stays behind."""
    file = IdleFile(tmp_path / "state", IDENTITY)
    file.require_writable()
    assert file.load() is None
    file.save(pair(200, 300))
    file.save(pair(200, 0xFFFFFFFF00000000))
    assert IdleFile(tmp_path / "state", IDENTITY).load() == pair(200, 0xFFFFFFFF00000000)
    assert [path.suffix for path in (tmp_path / "state").iterdir()] == [".json"]


@pytest.mark.parametrize(
    "other",
    [
        replace(IDENTITY, slot="cdc_other"),
        replace(IDENTITY, system_identifier="7300000000000000002"),
        replace(IDENTITY, timeline=2),
        replace(IDENTITY, database="other"),
    ],
)
def test_the_pair_of_another_slot_says_nothing(tmp_path: Path, other: SlotIdentity) -> None:
    """A pair vouches for the slot it was made for, in that database of that server, alone."""
    IdleFile(tmp_path, IDENTITY).save(pair(200, 300))
    assert IdleFile(tmp_path, other).load() is None


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b'{"slot": "cdc_cre', id="cut short"),
        pytest.param(b"\xff\xfe", id="no text"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"7", id="a number"),
        pytest.param(b"{}", id="without anything"),
        pytest.param(b'{"database": "postgres", "checkpoint": "0/1"}', id="half a pair"),
        pytest.param(
            b'{"database": "postgres", "checkpoint": "0/1", "idle_confirmed": "x"}', id="no LSN"
        ),
        pytest.param(
            b'{"database": "postgres", "checkpoint": 1, "idle_confirmed": "0/2"}',
            id="no text in it",
        ),
    ],
)
def test_a_file_that_cannot_be_read_halts(tmp_path: Path, content: bytes) -> None:
    """A broken file is never taken for "no pair" or for one: an operator has to look at it."""
    file = IdleFile(tmp_path, IDENTITY)
    file.save(pair(200, 300))
    (path,) = tmp_path.iterdir()
    path.write_bytes(content)
    with pytest.raises(PositionLost, match=r"cannot be read") as caught:
        file.load()
    assert path.name in caught.value.message


def test_a_disk_that_does_not_take_the_pair_halts(tmp_path: Path) -> None:
    """Without the pair on disk nothing is confirmed; the error says what to do."""
    file = IdleFile(tmp_path / "state", IDENTITY)
    file.require_writable()
    (tmp_path / "state").rmdir()
    with pytest.raises(SettingsError, match="cannot be written to"):
        file.save(pair(200, 300))


def test_a_state_directory_that_cannot_be_made_is_found_before_the_stream(tmp_path: Path) -> None:
    """A file stands where the directory should: a setting to change, not a crash later."""
    (tmp_path / "state").write_text("")
    with pytest.raises(SettingsError, match="cannot be written to"):
        IdleFile(tmp_path / "state", IDENTITY).require_writable()

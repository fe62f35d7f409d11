"""May the stream go on from here? The comparison of slot, checkpoint and what was confirmed idle.

The slot forgets what was confirmed, and START_REPLICATION from an older position begins silently at
the slot's own. So before each start:

    WAL ends before the checkpoint                         the source went back: halt
    confirmed_flush ≤ checkpoint                           nothing is missing
    confirmed_flush > checkpoint, and the pair covers it   nothing was published in between
    confirmed_flush > checkpoint, and the spool covers it  what was, is on our own disk
    else                                                   changes are gone: halt

The *pair* (checkpoint, idle_confirmed) is a file in the state directory. It says "while the target
stood at this checkpoint, the source was confirmed up to here and had published nothing", and is on
disk before the source is told. Both halves are needed: a target that was restored to an older
checkpoint would pass a test of the second alone. The same holds for the spool (`sync.spool`): it
says after which LSN it holds everything, and up to which.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import orjson

from cdc.backoff import Verdict, judge
from cdc.errors import PositionLost, SettingsError
from cdc.lsn import Lsn, format_lsn, parse_lsn
from cdc.source.slot import Slot
from cdc.target.checkpoint import Checkpoint, SlotIdentity

_MISSING = (
    "changes may be missing on the target: make a new copy, with CDC_SOURCE_ON_SLOT_LOST=resync, or"
    " by hand (README, “When the slot is lost”)"
)


@dataclass(slots=True, frozen=True)
class IdlePair:
    """Between `checkpoint` and `idle_confirmed` the source has published nothing."""

    checkpoint: Lsn
    idle_confirmed: Lsn


@dataclass(slots=True, frozen=True)
class Held:
    """All that was committed after `after` and up to `upto` is in the spool, or applied."""

    after: Lsn
    upto: Lsn


def sync_directory(folder: Path) -> None:
    """Have the names in a folder survive a crash."""
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


class IdleFile:
    """The pair on disk, in a file of its own for each slot identity."""

    def __init__(self, state_dir: Path, identity: SlotIdentity) -> None:
        self._identity = identity
        name = f"{identity.system_identifier}-{identity.timeline}-{identity.slot}.json"
        self._path = state_dir / name

    def require_writable(self) -> None:
        """Raise SettingsError if the state directory cannot be made or written to."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            writable = os.access(self._path.parent, os.W_OK)
        except OSError:
            writable = False
        if not writable:
            raise SettingsError(
                f"the state directory {self._path.parent} cannot be written to",
                hint="set CDC_STATE_DIR to a directory of the daemon's own, on a disk that stays",
            )

    def load(self) -> IdlePair | None:
        """Return the pair, or None where there is no file of this slot."""
        try:
            text = self._path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            content = orjson.loads(text)
            if content["database"] != self._identity.database:
                return None
            return IdlePair(parse_lsn(content["checkpoint"]), parse_lsn(content["idle_confirmed"]))
        except (KeyError, TypeError, ValueError) as ex:
            raise PositionLost(
                f"the state file {self._path} cannot be read",
                hint="restore it from a backup, or remove it if the target needs no catching up",
            ) from ex

    def save(self, pair: IdlePair) -> None:
        """Write the pair so that it survives a crash: file and directory are fsynced.

        Raises OSError while the disk is full, SettingsError where it does not take it otherwise.
        """
        content = {
            "slot": self._identity.slot,
            "database": self._identity.database,
            "checkpoint": format_lsn(pair.checkpoint),
            "idle_confirmed": format_lsn(pair.idle_confirmed),
        }
        try:
            self._replace(orjson.dumps(content))
        except OSError as ex:
            if judge(ex) is Verdict.RETRY:
                raise
            raise SettingsError(
                f"the state directory {self._path.parent} cannot be written to: {ex.strerror}",
                hint="mend the disk, or set CDC_STATE_DIR to another one and move its files;"
                " nothing was confirmed that is not in them",
            ) from ex

    def _replace(self, content: bytes) -> None:
        draft = self._path.with_suffix(".draft")
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path)
        sync_directory(self._path.parent)


def check_identity(checkpoint: Checkpoint, found: SlotIdentity) -> None:
    """Raise PositionLost unless the checkpoint belongs to this very slot."""
    expected = checkpoint.identity
    for what in ("system_identifier", "timeline", "database"):
        there, here = getattr(expected, what), getattr(found, what)
        if there != here:
            raise PositionLost(
                f"the checkpoint of slot {found.slot} belongs to {what.replace('_', ' ')} {there},"
                f" the source is {here}",
                hint="the source was restored, upgraded or replaced: compare both sides, then make"
                " a new copy (README, “When the slot is lost”)",
            )


def check_position(
    checkpoint: Checkpoint, slot: Slot | None, pair: IdlePair | None, held: Held | None = None
) -> None:
    """Raise PositionLost unless streaming from the checkpoint leaves no gap.

    What the spool holds beyond the checkpoint has to be applied from there first.
    """
    at = checkpoint.lsn
    assert at is not None
    slot = require_slot(slot, checkpoint.identity.slot, f"the checkpoint is {format_lsn(at)}")
    if parse_lsn(slot.source_lsn) < at:
        raise PositionLost(
            f"the source's WAL ends at {slot.source_lsn}, before the checkpoint {format_lsn(at)}",
            hint=f"the source was restored to an earlier state: {_MISSING}",
        )
    confirmed = slot.confirmed
    if confirmed is not None and confirmed > covered(at, pair, held):
        raise _gap(slot.name, at, confirmed)


def check_spool(checkpoint: Checkpoint, pair: IdlePair | None, held: Held) -> None:
    """Raise PositionLost unless applying what the spool holds to the target leaves no gap."""
    at = checkpoint.lsn
    assert at is not None
    if held.upto > covered(at, pair, held):
        raise _gap(checkpoint.identity.slot, at, held.after)


def covered(at: Lsn, pair: IdlePair | None, held: Held | None) -> Lsn:
    """Return up to where nothing is missing, for a target that stands at `at`."""
    if pair is not None and at >= pair.checkpoint:
        at = max(at, pair.idle_confirmed)
    if held is not None and at >= held.after:
        at = max(at, held.upto)
    return at


def require_slot(slot: Slot | None, name: str, where: str) -> Slot:
    """Return the slot; raise PositionLost if it is gone or lost."""
    if slot is None:
        raise PositionLost(f"slot {name} is gone; {where}", hint=_MISSING)
    if slot.wal_status == "lost":
        reason = slot.invalidation_reason or "its WAL was removed"
        raise PositionLost(f"slot {name} is lost ({reason}); {where}", hint=_MISSING)
    return slot


def _gap(name: str, at: Lsn, to: Lsn) -> PositionLost:
    return PositionLost(
        f"slot {name} was confirmed up to {format_lsn(to)}, the target holds the source only"
        f" up to {format_lsn(at)}, and nothing here says that the range between is empty",
        hint=f"{_MISSING}; if only the state directory was lost, bring its files back",
    )


def spool_from(
    known: Checkpoint | None, slot: Slot, pair: IdlePair | None, held: Held, *, empty: bool
) -> Held:
    """Return what the spool stands for when writing begins; the stream goes on from its `upto`.

    Where the checkpoint is not known, since the target is away, it begins where the slot stands:
    `check_spool` finds out later whether the target has what was before.
    """
    confirmed = slot.confirmed
    assert confirmed is not None
    if not empty:
        if confirmed > held.upto:
            raise _gap(slot.name, held.upto, confirmed)
        return held
    if known is not None:
        assert known.lsn is not None
        check_position(known, slot, pair, held)
        return Held(known.lsn, max(known.lsn, confirmed))
    return held if held.after <= confirmed <= held.upto else Held(confirmed, confirmed)

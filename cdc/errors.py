"""What can go wrong, and what the process says about it when it ends.

    CdcError
    ├── Unavailable          75  a database was away for longer than this command waits
    │   ├── SlotBusy         75  another consumer holds the slot
    │   └── TargetAway       75  it is the target, and has been for a while
    └── NeedsOperator        78  trying again cannot help
        ├── SettingsError    78  the settings are incomplete or contradict each other
        ├── CheckFailed      78  a precondition on one of the databases does not hold
        ├── ProtocolError    78  bytes on the wire that the manual does not know
        ├── PositionLost     78  slot and checkpoint do not fit: changes are gone, or may be
        ├── ChangeRefused    78  the target refuses a change, or cannot hold it
        ├── Fenced           78  another daemon moved the checkpoint
        └── SpoolFailed      78  the queue on our own disk is full, broken or gone

Each error carries a `hint`: what to run or to change next. Neither holds a row's values nor a
secret. What is done about an exception (retry, replay, halt) is decided in `backoff`, nowhere else.
"""

from typing import ClassVar


class CdcError(Exception):
    """Base of all errors that this package raises on purpose."""

    exit_code: ClassVar[int] = 78

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Unavailable(CdcError):
    """A database could not be reached, or left, for longer than this command waits."""

    exit_code = 75


class SlotBusy(Unavailable):
    """Another consumer streams from the slot; the message says who."""


class TargetAway(Unavailable):
    """The target could not be reached; the source may well be."""


class NeedsOperator(CdcError):
    """Trying again cannot help: somebody has to change something first."""


class SettingsError(NeedsOperator):
    """The settings are incomplete or contradict each other."""


class CheckFailed(NeedsOperator):
    """A precondition on one of the two databases does not hold."""


class ProtocolError(NeedsOperator):
    """The stream holds bytes that the manual's message formats do not allow."""

    def __init__(self, expected: str, got: str, offset: int) -> None:
        super().__init__(
            f"malformed message: expected {expected}, got {got} at byte {offset}",
            hint="nothing of this transaction was applied; report this with the server's version",
        )


class PositionLost(NeedsOperator):
    """The slot and the checkpoint do not fit: changes between them are gone, or may be."""


class ChangeRefused(NeedsOperator):
    """The target refuses a change, or has no place for it."""


class Fenced(NeedsOperator):
    """The checkpoint was moved by another daemon: this one may write no more."""


class SpoolFailed(NeedsOperator):
    """What is queued on our own disk cannot be written or read. Nothing of it was confirmed."""

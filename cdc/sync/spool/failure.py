"""What is said when the spool cannot be used: a clear halt, with nothing confirmed meanwhile."""

import sqlite3
from pathlib import Path

from cdc.errors import SpoolFailed
from cdc.lsn import Lsn, format_lsn

_KEPT = "Nothing is lost: what did not fit was not confirmed, the source's WAL keeps it"

_DISK = {
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_TOOBIG,
}


def full(path: Path, size: int, limit: int, transactions: int, upto: Lsn) -> SpoolFailed:
    """Return the error of a spool that has reached its limit."""
    return SpoolFailed(
        f"the spool {path} is full: {size:,} of {limit:,} bytes hold {transactions:,}"
        f" transactions up to {format_lsn(upto)}",
        hint=f"bring the target back, or give it more room: CDC_SPOOL_MAX_BYTES. {_KEPT}",
    )


def removed(path: Path) -> SpoolFailed:
    """Return the error of a file that no next start would find."""
    return SpoolFailed(
        f"the spool {path} was removed while changes were queued in it",
        hint="what came last was not confirmed; start again, and it is said whether the source has"
        " forgotten what the file held before",
    )


def explain(error: Exception, path: Path) -> SpoolFailed:
    """Return what a failure of SQLite, of a seal or of a format means to an operator."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return SpoolFailed(
            f"the disk of the spool {path} is full",
            hint=f"free space there, or move it (CDC_STATE_DIR, with its files). {_KEPT}",
        )
    if code in _DISK:
        name = getattr(error, "sqlite_errorname", "")
        return SpoolFailed(
            f"the spool {path} cannot be read or written ({name})",
            hint="see to the disk and its permissions, then start again: nothing was confirmed"
            " that is not in it",
        )
    return SpoolFailed(
        f"the spool {path} is corrupt",
        hint="put it aside and start again: where the source has forgotten what it held, that is"
        " said, and a new copy is needed (README, “When the slot is lost”)",
    )

"""What is in a slot's spool, read beside a daemon that writes to it; needs no key."""

import sqlite3
from dataclasses import dataclass

from cdc.lsn import Lsn
from cdc.settings import Settings

_QUERY = """
select after_lsn, (select coalesce(sum(size), 0) from record),
       (select coalesce(sum(transactions), 0)
               + coalesce(max(id) > coalesce(max(id) filter (where end_lsn > 0), 0), 0) from record)
  from spool
"""


@dataclass(slots=True, frozen=True)
class Spooled:
    """What is queued. The figures are not checked against the seal."""

    after: Lsn
    """The target holds what was committed up to here."""
    bytes: int
    transactions: int
    """One of which a part has come included."""


def peek(settings: Settings) -> Spooled | None:
    """Return what is queued on this machine; None where nothing is, or nothing can be read."""
    files = settings.state_dir.glob(f"*-{settings.source.slot}.spool")
    # Of several, those of other servers or timelines, the one in use is written to last.
    newest = max(files, key=lambda file: file.stat().st_mtime, default=None)
    if newest is None:
        return None
    try:
        database = sqlite3.connect(f"{newest.resolve().as_uri()}?mode=ro", uri=True)
        try:
            after, size, transactions = database.execute(_QUERY).fetchone()
        finally:
            database.close()
    except (sqlite3.Error, TypeError, ValueError):
        return None
    return Spooled(Lsn(after), size, transactions) if transactions else None

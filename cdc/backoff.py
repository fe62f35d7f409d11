"""The one table that says what is done about an exception, and how long to wait between tries.

    RETRY    the other side is away or busy: the same again, later, on a new connection
    REPLAY   the target refused a set-based statement: its batch again, one change at a time
    HALT     nothing that this process can do will help

SQLSTATEs are the manual's (appendix A, "PostgreSQL Error Codes"); classes stand for all their codes
unless a code is listed. A failed connection attempt carries no SQLSTATE: there the server's words
decide, since a wrong password will be wrong in a minute too. A server that is not trusted may be
tomorrow (`trust`): who has worked with it before waits, who has not says so and ends (`daemon`,
`cli`). Of our own disk's errors only those are tried again that somebody mends while we run.
"""

import errno
import random
import re
from collections.abc import Iterator
from enum import Enum, auto

import psycopg

from cdc.errors import CdcError, Unavailable
from cdc.trust import advice


class Verdict(Enum):
    """What is done about an exception."""

    RETRY = auto()
    REPLAY = auto()
    HALT = auto()


_BY_CODE = {
    "25006": Verdict.RETRY,  # read_only_sql_transaction: a failover is under way
    "55006": Verdict.REPLAY,  # object_in_use: TRUNCATE of a table with deferred checks pending
    "55000": Verdict.HALT,  # object_not_in_prerequisite_state: the slot is lost
    "57014": Verdict.RETRY,  # query_canceled
    "58P01": Verdict.HALT,  # undefined_file: a library that is not installed
    "CD001": Verdict.HALT,  # cdc.advance: another daemon moved the checkpoint
    "CD002": Verdict.REPLAY,  # cdc.expect: an UPDATE did not meet its rows
}

_BY_CLASS = {
    "0A": Verdict.REPLAY,  # feature not supported: a server built without XML, say
    "08": Verdict.RETRY,  # connection exception
    "21": Verdict.REPLAY,  # cardinality violation: one row twice in a set
    "22": Verdict.REPLAY,  # data exception
    "23": Verdict.REPLAY,  # integrity constraint violation
    "25": Verdict.RETRY,  # invalid transaction state
    "28": Verdict.HALT,  # invalid authorization
    "40": Verdict.RETRY,  # deadlock, serialization failure
    "42": Verdict.REPLAY,  # missing table, column, privilege: the replay names the change
    "44": Verdict.REPLAY,  # with check option violation
    "53": Verdict.RETRY,  # out of disk, memory, connections
    "54": Verdict.REPLAY,  # program limit: a value too long for an index of the target's own
    "55": Verdict.RETRY,  # lock not available
    "57": Verdict.RETRY,  # operator intervention: the server stops or starts
    "58": Verdict.RETRY,  # system error
    "P0": Verdict.REPLAY,  # a trigger or a function raised
    "XX": Verdict.RETRY,  # internal error: Neon's storage uses it while it moves
}

_FULL = {errno.ENOSPC, errno.EDQUOT}

_HOPELESS = re.compile(
    r"authentication failed|role .* does not exist|database .* does not exist"
    r"|not permitted to log in|no pg_hba\.conf entry|no password supplied"
    r"|unsupported startup parameter|tenant or user not found|connection is bad: invalid ",
    re.IGNORECASE,
)


def judge(error: BaseException) -> Verdict:
    """Return what is done about an exception."""
    if isinstance(error, Unavailable | ConnectionError | TimeoutError):
        return Verdict.RETRY
    if isinstance(error, OSError):
        return Verdict.RETRY if error.errno in _FULL else Verdict.HALT
    if isinstance(error, CdcError) or not isinstance(error, psycopg.Error):
        return Verdict.HALT
    code = error.sqlstate
    if code is not None:
        return _BY_CODE.get(code) or _BY_CLASS.get(code[:2], Verdict.HALT)
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return Verdict.HALT if _HOPELESS.search(str(error)) else Verdict.RETRY
    return Verdict.HALT


def ends_session(error: BaseException) -> bool:
    """Tell whether an exception says that the session is gone, and nothing else."""
    if not isinstance(error, psycopg.Error):
        return False
    code = error.sqlstate
    if code is None:
        return isinstance(error, psycopg.OperationalError)
    return code.startswith(("08", "57P"))


def untrusted(error: BaseException) -> str | None:
    """Return what to do where a server is not trusted, or takes no plaintext; None elsewhere."""
    return advice(str(error)) if isinstance(error, psycopg.OperationalError) else None


def described(error: BaseException) -> str:
    """Return what a log may say of an exception: never a message that could quote a value."""
    if isinstance(error, CdcError):
        return error.message
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    name = type(error).__name__
    code = error.sqlstate if isinstance(error, psycopg.Error) else None
    if code is None and isinstance(error, psycopg.OperationalError):
        # The driver's own words on a connection: it names the server, and no value passed by.
        said = str(error).strip().partition("\n")[0]
        to_do = untrusted(error)
        return f"{said}{f'; {to_do}' if to_do else ''}" if said else name
    return f"{name} ({code})" if code else name


FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 30.0


def delays() -> Iterator[float]:
    """Yield seconds to wait before each next try: exponential, capped, with jitter, without end.

    Jitter is full (0.5 to 1 of the delay), so that daemons that lost one database do not return as
    one.
    """
    delay = FIRST_DELAY_S
    while True:
        yield delay * random.uniform(0.5, 1.0)  # noqa: S311  # jitter, not a secret
        delay = min(delay * 2, LONGEST_DELAY_S)

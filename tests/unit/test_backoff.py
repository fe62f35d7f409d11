"""The one table of verdicts, and the delays between tries."""

import errno
from itertools import islice

import psycopg
import pytest

from cdc.backoff import FIRST_DELAY_S, LONGEST_DELAY_S, Verdict, delays, judge
from cdc.errors import (
    ChangeRefused,
    Fenced,
    PositionLost,
    ProtocolError,
    SlotBusy,
    Unavailable,
)


class _ServerError(psycopg.Error):
    """An error that came with a SQLSTATE, as psycopg's own classes have it."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__("as the server said it")
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("sqlstate", "verdict"),
    [
        pytest.param("08006", Verdict.RETRY, id="connection failure"),
        pytest.param("25006", Verdict.RETRY, id="read only: a failover is under way"),
        pytest.param("25P03", Verdict.RETRY, id="idle in transaction for too long"),
        pytest.param("40001", Verdict.RETRY, id="serialization failure"),
        pytest.param("40P01", Verdict.RETRY, id="deadlock"),
        pytest.param("53100", Verdict.RETRY, id="disk full"),
        pytest.param("53300", Verdict.RETRY, id="too many connections"),
        pytest.param("55P03", Verdict.RETRY, id="lock not available"),
        pytest.param("57014", Verdict.RETRY, id="query canceled"),
        pytest.param("57P01", Verdict.RETRY, id="the server stops"),
        pytest.param("57P03", Verdict.RETRY, id="the server starts"),
        pytest.param("58030", Verdict.RETRY, id="I/O error"),
        pytest.param("XX000", Verdict.RETRY, id="internal error"),
        pytest.param("22P02", Verdict.REPLAY, id="invalid text representation"),
        pytest.param("23503", Verdict.REPLAY, id="foreign key violation"),
        pytest.param("23505", Verdict.REPLAY, id="unique violation"),
        pytest.param("42703", Verdict.REPLAY, id="undefined column"),
        pytest.param("44000", Verdict.REPLAY, id="check option violation"),
        pytest.param("P0001", Verdict.REPLAY, id="a trigger raised"),
        pytest.param("CD002", Verdict.REPLAY, id="an update did not meet its rows"),
        pytest.param("CD001", Verdict.HALT, id="another daemon moved the checkpoint"),
        pytest.param("28P01", Verdict.HALT, id="wrong password"),
        pytest.param("55000", Verdict.HALT, id="the slot is lost"),
        pytest.param("0A000", Verdict.REPLAY, id="feature not supported"),
        pytest.param("55006", Verdict.REPLAY, id="truncate with checks pending"),
        pytest.param("3D000", Verdict.HALT, id="no such database"),
    ],
)
def test_verdict_on_an_error_of_the_server(sqlstate: str, verdict: Verdict) -> None:
    """The code decides where it is listed, else its class, else the process halts."""
    assert judge(_ServerError(sqlstate)) is verdict


@pytest.mark.parametrize(
    ("number", "verdict"),
    [
        pytest.param(errno.ENOSPC, Verdict.RETRY, id="disk full"),
        pytest.param(errno.EDQUOT, Verdict.RETRY, id="quota used up"),
        pytest.param(errno.EROFS, Verdict.HALT, id="mounted read-only"),
        pytest.param(errno.EACCES, Verdict.HALT, id="not ours"),
        pytest.param(errno.ECONNRESET, Verdict.RETRY, id="connection reset"),
    ],
)
def test_verdict_on_an_error_of_our_own_machine(number: int, verdict: Verdict) -> None:
    """A full disk is emptied by somebody while we go on; what needs a restart ends the process."""
    assert judge(OSError(number, "as the kernel said it")) is verdict


@pytest.mark.parametrize(
    "words",
    [
        'FATAL:  password authentication failed for user "cdc"',
        'FATAL:  role "cdc" does not exist',
        'FATAL:  database "credit" does not exist',
        'FATAL:  no pg_hba.conf entry for replication connection from host "10.0.0.1"',
        "fe_sendauth: no password supplied",
        "FATAL: Tenant or user not found",
    ],
)
def test_a_connection_that_can_never_be_made_halts(words: str) -> None:
    """A failed attempt has no SQLSTATE; what will be wrong in a minute too is not tried again."""
    assert judge(psycopg.OperationalError(words)) is Verdict.HALT


@pytest.mark.parametrize(
    "words",
    [
        "connection refused",
        'could not translate host name "db.example" to address',
        "server closed the connection unexpectedly",
        "FATAL:  the database system is starting up",
        "consuming input failed: SSL connection has been closed unexpectedly",
        "SSL error: certificate verify failed",
        'server certificate for "a" does not match host name "b"',
        "server does not support SSL, but SSL was required",
    ],
)
def test_a_connection_that_may_come_back_is_tried_again(words: str) -> None:
    """Everything else that befalls a connection passes."""
    assert judge(psycopg.OperationalError(words)) is Verdict.RETRY


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (Unavailable("away"), Verdict.RETRY),
        (SlotBusy("held"), Verdict.RETRY),
        (ConnectionResetError(), Verdict.RETRY),
        (TimeoutError(), Verdict.RETRY),
        (psycopg.InterfaceError("the connection is closed"), Verdict.RETRY),
        (ProtocolError("a Begin", "Commit", 0), Verdict.HALT),
        (PositionLost("gone"), Verdict.HALT),
        (ChangeRefused("refused"), Verdict.HALT),
        (Fenced("fenced"), Verdict.HALT),
        (psycopg.ProgrammingError("a bug of ours"), Verdict.HALT),
        (PermissionError(), Verdict.HALT),
        (AssertionError(), Verdict.HALT),
        (KeyboardInterrupt(), Verdict.HALT),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else value.name,
)
def test_verdict_on_other_errors(error: BaseException, verdict: Verdict) -> None:
    """Who is away may come back; what is broken stays broken."""
    assert judge(error) is verdict


def test_delays_grow_to_a_limit_and_never_end() -> None:
    """Each delay is between half and all of a value that doubles, up to the longest."""
    expected = FIRST_DELAY_S
    for delay in islice(delays(), 20):
        assert expected / 2 <= delay <= expected
        expected = min(expected * 2, LONGEST_DELAY_S)
    assert expected == LONGEST_DELAY_S


def test_two_daemons_do_not_return_as_one() -> None:
    """Delays have jitter."""
    assert list(islice(delays(), 20)) != list(islice(delays(), 20))

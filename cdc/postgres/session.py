"""Connections to either server, with every setting pinned that changes what a value looks like.

Supabase runs with extra_float_digits=0, which rounds float8 silently; other roles and databases may
carry a DateStyle or a statement_timeout of their own. So each session, ordinary or replication, on
either side, starts with `PINNED` as startup options: nothing that a role or database sets wins over
them. That asks for a direct endpoint: a transaction pooler refuses startup options.

`row_security=off` makes a role that lacks BYPASSRLS fail instead of copying the rows it can see.
"""

import asyncio
import os
import secrets
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo, timeout_from_conninfo

from cdc.awake import Wakefulness
from cdc.errors import SettingsError
from cdc.postgres.watch import Backend, Watch, WatchedConnection, cut

Connection: TypeAlias = AsyncConnection[tuple[object, ...]]

PINNED: dict[str, str] = {
    "extra_float_digits": "3",
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "bytea_output": "hex",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    # A server that works for us finds out that we are gone: what we have locked, others wait for.
    "client_connection_check_interval": "5s",
    "lc_monetary": "C",
    "array_nulls": "on",
    # What is confirmed to the source has to be durable, whatever the database's default is.
    "synchronous_commit": "on",
    "row_security": "off",
    # What a walsender leaves out, it says in a warning.
    "client_min_messages": "warning",
    # The source's names are qualified everywhere; nothing is looked up by a path.
    "search_path": "pg_catalog",
}

_TRANSACTION_TIMEOUT_VERSION = 170000

# By whether the server knows transaction_timeout. The backend is the real one, whatever a proxy
# that hands out keys of its own for cancelling (Neon's) says.
_BEGIN = {
    False: b"select pid, backend_start::text from pg_stat_get_activity(pg_backend_pid())",
    True: b"select pid, backend_start::text, set_config('transaction_timeout', '0', false)"
    b" from pg_stat_get_activity(pg_backend_pid())",
}

# For a WAN: a peer that vanished without a FIN is noticed within half a minute, both when we wait
# (keepalives; and `watch`, which asks after as much silence) and when we send (tcp_user_timeout,
# Linux). Whatever the DSN says wins.
WAN: dict[str, str | int | None] = {
    "connect_timeout": 15,
    "keepalives": 1,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}

# How long a walsender holds the slot of a daemon that is gone without a word: a standby waits as
# long. The server's own default is 60 s, and Supabase's. Whatever the DSN's options say wins.
SENDER_TIMEOUT_MS = 15_000

# What tells the sessions of this process from those of any other, at the end of their names.
INSTANCE = secrets.token_hex(4)

# The server cuts longer names off.
_NAME_BYTES = 63

_ESCAPES = "write @ # % / : in a password as %40 %23 %25 %2F %3A"

Side: TypeAlias = Literal["source", "target"]


def conninfo(
    dsn: str, *, application_name: str, replication: bool = False, side: Side = "source"
) -> str:
    """Return `dsn`, a side's, with our defaults beneath it and the pinned settings above it."""
    given = _read(dsn, side)
    if given.get("sslrootcert") == "system":
        _find_system_roots()
    pins = " ".join(f"-c {name}={value}" for name, value in PINNED.items())
    ours = f"-c wal_sender_timeout={SENDER_TIMEOUT_MS}" if replication else ""
    options = " ".join(str(part) for part in (ours, given.get("options"), pins) if part)
    merged = {**WAN, "application_name": application_name, **given}
    if replication:
        merged["application_name"] = _with_instance(str(merged["application_name"]))
    return make_conninfo("", **{**merged, "options": options, "client_encoding": "UTF8"})


def _read(dsn: str, side: Side) -> dict[str, str | int | None]:
    """Return what a DSN says; raise SettingsError, which quotes nothing of it.

    A password that is not escaped spills into what is next to it, and the driver would quote that.
    """
    problem = f"the DSN of the {side} (CDC_{side.upper()}_DSN) cannot be read"
    try:
        given = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        raise SettingsError(
            problem,
            hint="write it as postgresql://user:password@host:5432/database?sslmode=verify-full",
        ) from None
    if "@" in str(given.get("host") or "")[1:]:  # in front it means an abstract socket
        raise SettingsError(f"{problem}: its password holds an @", hint=_ESCAPES)
    # Of a / that is not escaped, the user becomes the host.
    if not given.keys() & {"user", "password"} and "@" in str(given.get("dbname") or ""):
        raise SettingsError(f"{problem}: its password holds a /", hint=_ESCAPES)
    ports = str(given.get("port") or "").split(",")
    if not all(port.isdecimal() or not port for port in ports):
        raise SettingsError(
            f"{problem}: its port is no number, or its password holds a / or :", hint=_ESCAPES
        )
    for host in str(given.get("host") or "").split(","):
        if not host.startswith(("/", "@")):  # else it is a socket
            _require_name(host, problem)
    return given


def _require_name(host: str, problem: str) -> None:
    """Raise SettingsError for what no resolver takes: it would raise an error of its own."""
    try:
        host.encode("idna")
    except UnicodeError:
        raise SettingsError(
            f"{problem}: its host is no name",
            hint="each part of it, between two dots, has one letter at least and 63 at most",
        ) from None


def _find_system_roots() -> None:
    """Tell libpq's OpenSSL where this machine keeps the certificates that it trusts.

    The one in psycopg's wheels looks for them in a folder that no machine has; Python's own knows.
    What the operator says in the same variables wins.
    """
    paths = ssl.get_default_verify_paths()
    for variable, found in (
        (paths.openssl_cafile_env, paths.cafile),
        (paths.openssl_capath_env, paths.capath),
    ):
        if found:
            os.environ.setdefault(variable, found)


def _with_instance(name: str) -> str:
    tail = f" {INSTANCE}"
    return name.encode()[: _NAME_BYTES - len(tail)].decode(errors="ignore") + tail


async def connect(
    dsn: str,
    *,
    application_name: str = "cdc",
    awake: Wakefulness | None = None,
    side: Side = "source",
) -> Connection:
    """Open an ordinary session in autocommit mode. Raises psycopg.OperationalError.

    `awake` hears of each question and its answer.
    """
    given = conninfo(dsn, application_name=application_name, side=side)
    with _naming(side):
        connection = await WatchedConnection.connect(given, autocommit=True)
        return await _begun(connection, given, awake)


async def connect_replication(dsn: str, *, application_name: str = "cdc") -> WatchedConnection:
    """Open a logical replication session: simple protocol only, so nothing is ever prepared.

    Its name ends with `INSTANCE`, so that what holds a slot is known to be ours.
    """
    given = conninfo(dsn, application_name=application_name, replication=True)
    with _naming("source"):
        connection = await WatchedConnection.connect(
            given, autocommit=True, prepare_threshold=None, replication="database"
        )
        return await _begun(connection, given, None)


@contextmanager
def _naming(side: Side) -> Iterator[None]:
    """Say of a session that does not come to be with which side it was to be."""
    try:
        yield
    except psycopg.Error as ex:
        if ex.sqlstate is not None:
            raise
        raise type(ex)(f"{side} (CDC_{side.upper()}_DSN): {ex}") from ex


async def _begun(
    connection: WatchedConnection, conninfo: str, awake: Wakefulness | None
) -> WatchedConnection:
    """Begin the watch, and pin what only newer servers know: as a startup option it were fatal."""
    newer = connection.info.server_version >= _TRANSACTION_TIMEOUT_VERSION
    timeout_s = timeout_from_conninfo(conninfo_to_dict(conninfo))
    limit = asyncio.get_running_loop().call_later(timeout_s, cut, connection)
    try:
        row = await (await connection.execute(_BEGIN[newer])).fetchone()
    except BaseException:
        await connection.close()
        raise
    finally:
        limit.cancel()
    assert row is not None
    backend = Backend(int(str(row[0])), str(row[1]))
    connection.watch = Watch(connection, conninfo, backend, awake)
    return connection


def endpoint(dsn: str) -> str:
    """Return `user@host:port/database` of a DSN: what a message may say of it."""
    given = conninfo_to_dict(dsn)
    host = given.get("host") or given.get("hostaddr") or "localhost"
    return f"{given.get('user', '')}@{host}:{given.get('port', 5432)}/{given.get('dbname', '')}"

"""Connections to either server, with every setting pinned that changes what a value looks like.

Supabase runs with extra_float_digits=0, which rounds float8 silently; other roles and databases may
carry a DateStyle or a statement_timeout of their own. So each session, ordinary or replication, on
either side, starts with `PINNED` as startup options: nothing that a role or database sets wins over
them. That asks for a direct endpoint: a transaction pooler refuses startup options.

`row_security=off` makes a role that lacks BYPASSRLS fail instead of copying the rows it can see.
"""

from typing import Literal, TypeAlias

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from cdc.errors import SettingsError

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

# For a WAN: a peer that vanished without a FIN is noticed within about a minute, both when we wait
# (keepalives) and when we send (tcp_user_timeout, Linux). Whatever the DSN says wins.
WAN: dict[str, str | int | None] = {
    "connect_timeout": 15,
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}


def conninfo(dsn: str, *, application_name: str) -> str:
    """Return `dsn` with our defaults beneath it and the pinned settings above it."""
    try:
        given = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        # The driver's message quotes the string, and that holds the password.
        raise SettingsError(
            "a DSN cannot be read",
            hint="write it as postgresql://user:password@host:5432/database?sslmode=verify-full",
        ) from None
    pins = " ".join(f"-c {name}={value}" for name, value in PINNED.items())
    options = f"{given.get('options') or ''} {pins}".strip()
    ours = {"options": options, "client_encoding": "UTF8"}
    return make_conninfo("", **{**WAN, "application_name": application_name, **given, **ours})


async def connect(dsn: str, *, application_name: str = "cdc") -> Connection:
    """Open an ordinary session in autocommit mode. Raises psycopg.OperationalError."""
    return await _without_time_limit(
        await AsyncConnection.connect(
            conninfo(dsn, application_name=application_name), autocommit=True
        )
    )


async def connect_replication(dsn: str, *, application_name: str = "cdc") -> Connection:
    """Open a logical replication session: simple protocol only, so nothing is ever prepared."""
    return await _without_time_limit(
        await AsyncConnection.connect(
            conninfo(dsn, application_name=application_name),
            autocommit=True,
            prepare_threshold=None,
            replication="database",
        )
    )


async def _without_time_limit(connection: Connection) -> Connection:
    """Pin what only newer servers know: a startup option that a server does not know is fatal."""
    if connection.info.server_version >= _TRANSACTION_TIMEOUT_VERSION:
        try:
            await connection.execute("set transaction_timeout = 0")
        except BaseException:
            await connection.close()
            raise
    return connection


Side: TypeAlias = Literal["source", "target"]


def endpoint(dsn: str) -> str:
    """Return `user@host:port/database` of a DSN: what a message may say of it."""
    given = conninfo_to_dict(dsn)
    host = given.get("host") or given.get("hostaddr") or "localhost"
    return f"{given.get('user', '')}@{host}:{given.get('port', 5432)}/{given.get('dbname', '')}"

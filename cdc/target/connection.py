"""Connections to the target, which a Neon compute has to be awake for: so that is counted."""

from time import monotonic

import psycopg

from cdc.awake import Wakefulness
from cdc.postgres.session import Connection, connect

# A process has one target.
AWAKE = Wakefulness()

# Large values cost the target mostly their compression, and pglz, the server's default, thrice as
# much as lz4 (65 % of all that a row with 100 KB of jsonb costs: perf). Where the server knows it,
# and nobody has set another: a column's own setting wins over this anyway.
_COMPRESS = """
select set_config(name, 'lz4', false) from pg_settings
 where name = 'default_toast_compression' and source = 'default' and 'lz4' = any(enumvals)
"""


async def connect_target(dsn: str, *, application_name: str = "cdc") -> Connection:
    """Open an ordinary session on the target. Raises psycopg.OperationalError."""
    AWAKE.begin(monotonic())
    try:
        connection = await connect(
            dsn, application_name=application_name, awake=AWAKE, side="target"
        )
    except psycopg.OperationalError:
        AWAKE.answers = False
        raise
    finally:
        AWAKE.end(monotonic())
    AWAKE.answers = True
    return connection


async def connect_for_rows(dsn: str, *, application_name: str = "cdc") -> Connection:
    """Open a session that writes rows. Raises psycopg.OperationalError."""
    connection = await connect_target(dsn, application_name=application_name)
    try:
        await connection.execute(_COMPRESS)
    except BaseException:
        await connection.close()
        raise
    return connection

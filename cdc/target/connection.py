"""Connections to the target, which a Neon compute has to be awake for: so that is counted."""

from time import monotonic

from cdc.awake import Wakefulness
from cdc.postgres.session import Connection, connect

# A process has one target.
AWAKE = Wakefulness()


async def connect_target(dsn: str, *, application_name: str = "cdc") -> Connection:
    """Open an ordinary session on the target. Raises psycopg.OperationalError."""
    AWAKE.begin(monotonic())
    try:
        return await connect(dsn, application_name=application_name, awake=AWAKE)
    finally:
        AWAKE.end(monotonic())

"""Pairs of sessions: one on the source, one on the target."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cdc.postgres.session import Connection, connect
from cdc.settings import Settings
from cdc.target.connection import connect_target

_NAME = "cdc verify"


@asynccontextmanager
async def sessions(settings: Settings) -> AsyncIterator[tuple[Connection, Connection]]:
    """Open a session on each side."""
    ours, theirs = settings.source.require_dsn(), settings.target.require_dsn()
    async with (
        await connect(ours, application_name=_NAME) as source,
        await connect_target(theirs, application_name=_NAME) as target,
    ):
        yield source, target

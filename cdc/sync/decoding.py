"""What the output plugin sent, into messages; with a look at the source's catalog where it is due.

pgoutput says all by itself. A line of wal2json is understood with its table's shape, which has to
be newer than the line's transaction: one read serves all transactions that were committed before
it, so that a stream which catches up asks once a table, and one that keeps pace once a transaction
at most.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias

from cdc.postgres.session import Connection, connect
from cdc.settings import Settings
from cdc.source.shapes import load_shape
from cdc.wire import pgoutput
from cdc.wire.messages import Message
from cdc.wire.wal2json import Decoder, ShapeUnknown

Decode: TypeAlias = Callable[[bytes], Sequence[Message]]


class Decoding:
    """Decodes one stream."""

    def __init__(self, source: Connection | None = None) -> None:
        """Decode what wal2json sends, with looks at its source; without one, what pgoutput does."""
        self._decoder = Decoder()
        self._source = source
        self.decode: Decode = pgoutput.decode_payload if source is None else self._decoder.decode
        """Returns messages, or raises ShapeUnknown; `learn` helps then."""

    async def learn(self, unknown: ShapeUnknown) -> None:
        """Read a table's shape, so that the same payload can be decoded."""
        assert self._source is not None
        shape, lsn = await load_shape(self._source, unknown.schema, unknown.table)
        self._decoder.learn(unknown.schema, unknown.table, shape, lsn)


@asynccontextmanager
async def open_decoding(settings: Settings) -> AsyncIterator[Decoding]:
    """Yield the decoding of the plugin that the settings name."""
    if settings.source.plugin == "pgoutput":
        yield Decoding()
    else:
        async with await connect(settings.source.require_dsn()) as source:
            yield Decoding(source)

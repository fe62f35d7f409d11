"""Any bytes whatever: a message or ProtocolError, steps or ProtocolError, in bounded memory.

Rounds run for a bounded time (`FUZZ_SECONDS`, 5 for all decoders together): each a stream of real
messages, some of them mutated, through a decoder and into a builder. Each round has a seed of its
own; the one of a failure is printed, and `FUZZ_SEED` begins with it.
"""

import os
import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random, randrange
from time import monotonic

import pytest

from cdc.changes.batch import BatchBuilder
from cdc.changes.relations import RelationCache
from cdc.errors import ChangeRefused, ProtocolError
from cdc.lsn import Lsn
from cdc.wire import wal2json
from cdc.wire.messages import Message
from cdc.wire.pgoutput import decode
from cdc.wire.replication import PrimaryKeepalive, XLogData, decode_frame
from tests.tally import count
from tests.unit.encode import encode_frame
from tests.unit.mutate import mutate
from tests.unit.sent import SENT
from tests.unit.sent_lines import LINES

SECONDS = float(os.environ.get("FUZZ_SECONDS", "5"))
SEED = int(os.environ.get("FUZZ_SEED") or randrange(1 << 32))

MUTANTS = 16
"""In a round: enough that a stream gets far, few enough to read."""

MEMORY_KB = 64 << 10
"""What mutants of a few kB may add to the peak: a length that is believed asks for gigabytes."""

PAYLOADS = [bytes.fromhex(payload) for payload, _ in SENT.values()]


@dataclass(frozen=True, slots=True)
class Decoder:
    """Something that reads what a server sent, and what a server did send, in order."""

    start: Callable[[], Callable[[bytes], Sequence[Message]]]
    """Begins a stream, and gives what decodes it."""
    corpus: Sequence[bytes]


def decode_payload(payload: bytes) -> Sequence[Message]:
    """Decode as `sync.pipeline` does with pgoutput."""
    return (decode(payload),)


def decode_all(frame: bytes) -> Sequence[Message]:
    """Decode as `sync.pipeline` does, from the frame on."""
    content = decode_frame(frame)
    return () if isinstance(content, PrimaryKeepalive) else decode_payload(content.payload)


def start_lines() -> Callable[[bytes], Sequence[Message]]:
    """Decode as `sync.pipeline` does with wal2json, a catalog beside it that knows nothing."""
    decoder = wal2json.Decoder()

    def decode_line(line: bytes) -> Sequence[Message]:
        try:
            return decoder.decode(line)
        except wal2json.ShapeUnknown as unknown:
            decoder.learn(unknown.schema, unknown.table, None, Lsn(1 << 64))
            return decoder.decode(unknown.payload)

    return decode_line


DECODERS: dict[str, Decoder] = {
    "pgoutput": Decoder(lambda: decode_payload, PAYLOADS),
    "wal2json": Decoder(start_lines, LINES),
    "frames": Decoder(
        lambda: decode_all,
        [
            encode_frame(PrimaryKeepalive(Lsn(1), 2, reply_requested=True)),
            *(encode_frame(XLogData(Lsn(1), Lsn(2), 3, payload)) for payload in PAYLOADS),
        ],
    ),
}


@pytest.mark.timeout(SECONDS + 60)
@pytest.mark.parametrize("name", DECODERS)
def test_mutants_are_messages_or_protocol_errors(name: str) -> None:
    """Broken messages raise ProtocolError, in the decoder or in the builder, and nothing else."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seed, deadline = SEED, monotonic() + SECONDS / len(DECODERS)
    while monotonic() < deadline:
        stream = Stream(DECODERS[name], Random(seed))
        try:
            stream.run()
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
            assert grown < MEMORY_KB, f"the process grew by {grown} kB"
        except Exception as ex:
            ex.add_note(f"FUZZ_SEED={seed}; the last message: {stream.last.hex()}")
            raise
        count(f"fuzz, {name}", "mutants", MUTANTS)
        count(f"fuzz, {name}", "decoded", stream.decoded)
        count(f"fuzz, {name}", "folded", stream.folded)
        seed += 1


class Stream:
    """A transaction as it was sent, broken off somewhere, and mutants behind it."""

    def __init__(self, decoder: Decoder, random: Random) -> None:
        self._corpus = decoder.corpus
        self._start_decoding = decoder.start
        self._decode = decoder.start()
        self._random = random
        self._builder = BatchBuilder(RelationCache({}))
        self.last = b""
        self.decoded = self.folded = 0
        """Number of the mutants that made sense, and of those that made sense there."""

    def run(self) -> None:
        """Send all of it; a builder that refuses a message is of no use any more."""
        self._start()
        for _ in range(MUTANTS):
            self.last = mutate(self._corpus, self._random)
            try:
                messages = self._decode(self.last)
            except ProtocolError:
                continue
            self.decoded += 1
            try:
                self._fold(messages)
            except (ProtocolError, ChangeRefused):  # refused: an old row without its key
                self._start()
            else:
                self.folded += 1
        self._builder.take()

    def _start(self) -> None:
        self._builder = BatchBuilder(RelationCache({}))
        self._decode = self._start_decoding()
        for payload in self._corpus[: self._random.randrange(len(self._corpus))]:
            self._fold(self._decode(payload))

    def _fold(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self._builder.add(message, 1)
        if self._random.random() < 0.1:
            self._builder.take()

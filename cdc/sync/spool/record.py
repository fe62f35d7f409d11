"""What stands in the spool: frames as the source sent them, packed into records."""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from cdc.lsn import Lsn
from cdc.sync.spool.seal import Broken

_FRAME = struct.Struct("!I")


@dataclass(slots=True, frozen=True)
class Record:
    """Frames in stream order: of whole transactions, or a piece of one."""

    frames: list[bytes]
    end_lsn: Lsn
    """End of its last Commit; 0 for a piece that has none."""
    transactions: int
    """Number of its Commits."""
    shapes: dict[int, bytes] = field(default_factory=dict)
    """The last Relation message for each relation id among the frames; read back by `shapes`."""

    @property
    def size(self) -> int:
        """Bytes of its frames."""
        return sum(map(len, self.frames))


def pack(frames: Sequence[bytes]) -> bytes:
    """Return frames as one content, each with its length in front."""
    return b"".join(part for frame in frames for part in (_FRAME.pack(len(frame)), frame))


def unpack(content: bytes) -> Iterator[bytes]:
    """Yield the frames of a content; raise Broken where it is none."""
    offset = 0
    while offset < len(content):
        if offset + _FRAME.size > len(content):
            raise Broken
        (size,) = _FRAME.unpack_from(content, offset)
        offset += _FRAME.size + size
        if offset > len(content):
            raise Broken
        yield content[offset - size : offset]

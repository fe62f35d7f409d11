"""Frames into records: whole transactions together, a large one piece by piece. Pure.

Only Begin, Commit, Relation and keepalives are looked into; a change is kept as it came.
"""

from cdc.lsn import INVALID, Lsn
from cdc.sync.spool.record import Record
from cdc.wire.messages import Begin, Commit, Relation
from cdc.wire.pgoutput import decode
from cdc.wire.replication import XLOG_DATA_HEADER, PrimaryKeepalive, decode_frame

# A transaction that is not whole is given out once it takes so much memory.
PIECE_BYTES = 1 << 20

_KIND = slice(XLOG_DATA_HEADER, XLOG_DATA_HEADER + 1)
_CHANGE = {b"I", b"U", b"D", b"T", b"M", b"O", b"Y"}


class Gather:
    """Takes frames as they come; `take` gives out what may be stored."""

    def __init__(self, upto: Lsn) -> None:
        self.upto = upto
        """All that was committed before it has been taken in, or was known."""
        self._frames: list[bytes] = []
        self._whole = 0
        """Number of frames up to the last Commit."""
        self._open_bytes = 0
        """Of those after it."""
        self._commits = 0
        self._end_lsn = INVALID
        self._shapes: dict[int, bytes] = {}
        self._open_shapes: dict[int, bytes] = {}
        self._in_transaction = self._skipping = False

    def add(self, frame: bytes) -> bool:
        """Take in a frame; return True if the server wants an answer to it."""
        if frame[:1] == b"w" and frame[_KIND] in _CHANGE:
            if not self._skipping:
                self._keep(frame)
            return False
        content = decode_frame(frame)
        if isinstance(content, PrimaryKeepalive):
            if not self._in_transaction:
                self.upto = max(self.upto, content.wal_end)
            return content.reply_requested
        match decode(content.payload):
            case Relation() as relation:
                # Sent once, also where it stands in a transaction that is known.
                self._open_shapes[relation.relation_id] = frame
                self._keep(frame)
            case Begin() as begin:
                self._in_transaction = True
                self._skipping = begin.final_lsn < self.upto
                if not self._skipping:
                    self._keep(frame)
            case Commit() as commit:
                if not self._skipping:
                    self._keep(frame)
                    self._end(commit)
                self._in_transaction = self._skipping = False
        return False

    def take(self) -> list[Record]:
        """Give out the whole transactions; and what there is of one that has grown large."""
        records: list[Record] = []
        if self._whole:
            frames = self._frames[: self._whole]
            records.append(Record(frames, self._end_lsn, self._commits, self._shapes))
            del self._frames[: self._whole]
            self._whole = self._commits = 0
            self._shapes = {}
        if self._open_bytes >= PIECE_BYTES:
            records.append(Record(self._frames, INVALID, 0, self._open_shapes))
            self._frames, self._open_shapes = [], {}
            self._open_bytes = 0
        return records

    def _keep(self, frame: bytes) -> None:
        self._frames.append(frame)
        self._open_bytes += len(frame)

    def _end(self, commit: Commit) -> None:
        """Count a transaction as whole."""
        self._whole = len(self._frames)
        self._open_bytes = 0
        self._commits += 1
        self._shapes |= self._open_shapes
        self._open_shapes = {}
        self._end_lsn = commit.end_lsn
        self.upto = max(self.upto, commit.end_lsn)

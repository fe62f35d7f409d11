"""Takes the frames that have arrived out of libpq: a loop without a wait, which can be compiled."""

from typing import Final

from psycopg.pq.abc import PGconn

# What is taken at once at most: a millisecond or two of work before others get their turn.
FRAMES: Final = 500
FRAME_BYTES: Final = 1 << 20


def drain(pgconn: PGconn, frames: list[bytes], received: int) -> tuple[int, int]:
    """Add what has arrived to `frames`, which hold `received` bytes, up to the limits.

    Returns what `get_copy_data` said last: more than 0 if there may be more, 0 if nothing has
    arrived, -1 at the end of the stream; and the bytes that `frames` hold by now. Raises
    psycopg.OperationalError.
    """
    while len(frames) < FRAMES and received < FRAME_BYTES:
        size, data = pgconn.get_copy_data(1)
        if size <= 0:
            return size, received
        frames.append(bytes(data))
        received += size
    return 1, received

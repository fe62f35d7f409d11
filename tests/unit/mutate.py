"""Messages broken at random: what a fault on the way, or a hostile server, could make of them.

All that is drawn comes from the generator that is handed in, so that a seed repeats it.
"""

from collections.abc import Callable, Sequence
from random import Random

# Counts and lengths that a decoder may trust too soon: signs, limits, all that four bytes can say.
_LENGTHS = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)

# Mutants of mutants stay short, so that a second holds many.
_MAX_BYTES = 4096


def mutate(corpus: Sequence[bytes], random: Random) -> bytes:
    """Return one of the corpus, changed in one to four places."""
    mutant = bytearray(random.choice(corpus))
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        random.choice(_MUTATIONS)(mutant, corpus, random)
    return bytes(mutant[:_MAX_BYTES])


def _place(mutant: bytearray, random: Random) -> int:
    return random.randrange(len(mutant) + 1)


def _range(content: bytes | bytearray, random: Random) -> tuple[int, int]:
    start = random.randrange(len(content) + 1)
    return start, random.randint(start, len(content))


def _flip(mutant: bytearray, _corpus: Sequence[bytes], random: Random) -> None:
    if mutant:
        mutant[random.randrange(len(mutant))] ^= 1 << random.randrange(8)


def _set_byte(mutant: bytearray, _corpus: Sequence[bytes], random: Random) -> None:
    if mutant:
        # A kind of tuple or value, as often as any byte.
        byte = random.choice(b'KONtnub{}",\\') if random.random() < 0.5 else random.randrange(256)
        mutant[random.randrange(len(mutant))] = byte


def _set_length(mutant: bytearray, _corpus: Sequence[bytes], random: Random) -> None:
    at, width = _place(mutant, random), random.choice((1, 2, 4, 8))
    length = random.choice((*_LENGTHS, len(mutant), len(mutant) - at, len(mutant) - at - width))
    mutant[at : at + width] = (length % (1 << 8 * width)).to_bytes(width, "big")


def _truncate(mutant: bytearray, _corpus: Sequence[bytes], random: Random) -> None:
    del mutant[_place(mutant, random) :]


def _remove(mutant: bytearray, _corpus: Sequence[bytes], random: Random) -> None:
    start, end = _range(mutant, random)
    del mutant[start:end]


def _repeat(mutant: bytearray, _corpus: Sequence[bytes], random: Random) -> None:
    start, end = _range(mutant, random)
    at = _place(mutant, random)
    mutant[at:at] = mutant[start:end] * random.randint(1, 3)


def _splice(mutant: bytearray, corpus: Sequence[bytes], random: Random) -> None:
    """Go on as another message does, or have a piece of it."""
    other = random.choice(corpus)
    start, end = _range(other, random)
    at = _place(mutant, random)
    if random.random() < 0.5:
        mutant[at:] = other[start:]
    else:
        mutant[at:at] = other[start:end]


_MUTATIONS: tuple[Callable[[bytearray, Sequence[bytes], Random], None], ...] = (
    _flip,
    _set_byte,
    _set_length,
    _truncate,
    _remove,
    _repeat,
    _splice,
)

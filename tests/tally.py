"""How much was tried at random: counted where it runs, said in pytest's summary."""

from collections import Counter

_counts: Counter[tuple[str, str]] = Counter()


def count(what: str, unit: str, number: int = 1) -> None:
    """Add to the number of `unit` (examples, mutants) of `what`."""
    _counts[what, unit] += number


def counts() -> list[tuple[str, str, int]]:
    """Return what was counted here, as a worker of pytest-xdist sends it home."""
    return [(what, unit, number) for (what, unit), number in _counts.items()]


def summary() -> str:
    """Return a line of all that was counted: "fold, pure: 3000 examples; …"."""
    lines: dict[str, list[str]] = {}
    for (what, unit), number in _counts.items():
        lines.setdefault(what, []).append(f"{number} {unit}")
    return "; ".join(f"{what}: {', '.join(parts)}" for what, parts in lines.items())

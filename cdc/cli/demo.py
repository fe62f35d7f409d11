"""`cdc demo`: placeholder until the demo is written."""


def demo() -> None:
    """Not here yet."""

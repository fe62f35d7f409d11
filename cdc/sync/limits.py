"""When a stream comes to an end by itself, and how long it waits."""

from dataclasses import dataclass

from cdc.lsn import Lsn


@dataclass(slots=True)
class Limits:
    """When a pipeline ends by itself, and how long it waits for an absent target."""

    until: Lsn | None = None
    patience_s: float | None = None
    """None: as long as it takes."""
    copied: bool = False
    """End when all tables are copied."""
    away_s: float | None = None
    """After so long the target counts as away, and the pipeline ends. None: it waits."""

    @property
    def asked(self) -> bool:
        """There is an end."""
        return self.until is not None or self.copied

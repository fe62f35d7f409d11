"""What the receiver of alerts was told, kept in the state directory: one JSON file a slot.

So a daemon that is started again and again, and ends by the same each time, alerts once; and an
alert of a daemon that has ended is resolved by the next one. It is written when an alert has
arrived, not when it is sent. A file that is lost or broken costs an alert twice, and no more.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from cdc.observe.alerts import CALM_S, Alert, Episode, Status
from cdc.observe.conditions import KINDS, Condition, Severity
from cdc.observe.now import Now

log = logging.getLogger(__name__)


@dataclass(slots=True, frozen=True)
class _Entry:
    """An episode that goes on. Times are Unix times: the file outlives the machine's start."""

    incident: str
    alerts: int
    severity: Severity
    detail: str
    began_unix_s: float
    told_unix_s: float


class Told:
    """The file of one slot."""

    def __init__(self, state_dir: Path, slot: str) -> None:
        self._path = state_dir / f"{slot}.alerts"
        self._entries: dict[str, _Entry] = {}

    def load(self, now: Now) -> tuple[Episode, ...]:
        """Return the episodes that go on, as far as the file knows."""
        try:
            self._entries = msgspec.json.decode(self._path.read_bytes(), type=dict[str, _Entry])
        except FileNotFoundError:
            return ()
        except (OSError, msgspec.MsgspecError) as ex:
            log.warning(
                "alerts may be sent again: the file of those sent cannot be read",
                extra={"file": str(self._path), "error": type(ex).__name__},
            )
            return ()
        return tuple(self._episodes(now))

    def _episodes(self, now: Now) -> Iterator[Episode]:
        for kind in KINDS:
            entry = self._entries.get(kind.name)
            if entry is not None:
                condition = Condition(kind, entry.severity, entry.detail, kind.next)
                yield Episode(
                    condition,
                    began_at_s=now.at_s - (now.unix_s - entry.began_unix_s),
                    seen_at_s=now.at_s,
                    calm_s=CALM_S,
                    told_at_s=now.at_s - (now.unix_s - entry.told_unix_s),
                    told=condition,
                    alerts=entry.alerts,
                    incident=entry.incident,
                )

    def note(self, alert: Alert, now: Now) -> None:
        """Remember what has arrived."""
        condition = alert.condition
        self._entries.pop(condition.kind.name, None)
        if alert.status is Status.FIRING:
            self._entries[condition.kind.name] = _Entry(
                alert.incident,
                alert.number,
                condition.severity,
                condition.detail,
                now.unix_of(alert.began_at_s),
                now.unix_s,
            )
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            written = self._path.with_suffix(".alerts.new")
            written.write_bytes(msgspec.json.encode(self._entries))
            written.replace(self._path)
        except OSError as ex:
            log.warning(
                "an alert may be sent again: the file of those sent cannot be written",
                extra={"file": str(self._path), "error": ex.strerror},
            )

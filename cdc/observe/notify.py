"""Tells systemd how the daemon does: sd_notify(3), by the standard library alone.

    READY       once the stream has started: slot and checkpoint were found to fit
    STATUS      what flows, and how far behind, for `systemctl status`
    WATCHDOG    while reader and applier come on (`Vitals.hangs`); who hangs is killed and restarted
    STOPPING, RELOADING

No timer of its own says that all is well: a reader or an applier that does not move for half the
watchdog's time gets no more WATCHDOG. Without $NOTIFY_SOCKET nothing is said to anybody.
"""

import asyncio
import logging
import os
import socket
from time import CLOCK_MONOTONIC, clock_gettime_ns

from cdc.lsn import format_lsn
from cdc.observe.now import now
from cdc.vitals import Vitals

log = logging.getLogger(__name__)

STATUS_INTERVAL_S = 5.0


class Notifier:
    """Who speaks to systemd for one daemon."""

    def __init__(self, vitals: Vitals) -> None:
        self._vitals = vitals
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        watchdog_us = os.environ.get("WATCHDOG_USEC", "")
        ours = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._watchdog_s = int(watchdog_us) / 1e6 if watchdog_us.isdigit() and ours else None
        self._ready = False
        self._told = False

    async def run(self) -> None:
        """Speak now and then, until cancelled."""
        if not self._address:
            return
        interval_s = STATUS_INTERVAL_S
        if self._watchdog_s is not None:
            interval_s = min(interval_s, self._watchdog_s / 4)
        while True:
            self.speak()
            await asyncio.sleep(interval_s if self._ready else min(interval_s, 0.2))

    def speak(self) -> None:
        """Say how things are."""
        said = [f"STATUS={self._status()}"]
        if not self._ready and self._vitals.streams:
            self._ready = True
            said.append("READY=1")
        if self._watchdog_s is not None and not self._hangs(self._watchdog_s / 2):
            said.append("WATCHDOG=1")
        self._send(*said)

    def reload(self, *, done: bool) -> None:
        """Say that the settings are read again, or were."""
        if done:
            self._send("READY=1")
        else:
            self._send("RELOADING=1", f"MONOTONIC_USEC={clock_gettime_ns(CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """Say that the daemon ends."""
        self._send("STOPPING=1", f"STATUS={self._status()}")

    def _hangs(self, limit_s: float) -> bool:
        problem = self._vitals.hangs(now().at_s, limit_s)
        if problem is not None and not self._told:
            log.error("not alive: the watchdog is told nothing", extra={"problem": problem})
        self._told = problem is not None
        return self._told

    def _status(self) -> str:
        vitals, moment = self._vitals, now()
        said = [str(vitals.phase)]
        if vitals.problem:
            said.append(vitals.problem)
        if vitals.copying:
            said.append(f"{vitals.copy.tables_done} of {vitals.copy.tables} tables copied")
        lag_s = vitals.lag_s(moment.source_us, moment.at_s)
        if lag_s is not None:
            said.append("in sync" if lag_s == 0 else f"{lag_s:.1f} s behind")
        if vitals.progress is not None:
            said.append(f"checkpoint {format_lsn(vitals.progress.checkpoint)}")
        return ", ".join(said).replace("\n", " ")

    def _send(self, *said: str) -> None:
        """Send a datagram. One that nobody takes is lost: systemd then thinks what it thinks."""
        if not self._address:
            return
        address = self._address
        if address.startswith("@"):
            address = "\0" + address[1:]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as ours:
            ours.setblocking(False)
            try:
                ours.sendto("\n".join(said).encode(), address)
            except OSError as ex:
                log.warning("systemd cannot be told", extra={"error": ex.strerror})

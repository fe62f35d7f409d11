"""Tells systemd how the daemon does: sd_notify(3), by the standard library alone.

    READY       once the stream has started: slot and checkpoint were found to fit
    STATUS      what flows, and how far behind, for `systemctl status`
    WATCHDOG    while reader and applier come on (`Vitals.hangs`); who hangs is killed and restarted
    STOPPING, RELOADING

No timer of its own says that all is well: a reader or an applier that does not move for half the
watchdog's time gets no more WATCHDOG until it does. It moves too while the target works on what it
was asked, or waits for the lock of another: the server says so, and a kill would mend neither.
Without $NOTIFY_SOCKET nothing is said to anybody.
"""

import asyncio
import logging
import math
import os
import socket
from time import CLOCK_MONOTONIC, clock_gettime_ns, monotonic

from cdc.lsn import format_lsn
from cdc.observe.now import Now, now
from cdc.vitals import Vitals

log = logging.getLogger(__name__)

STATUS_INTERVAL_S = 5.0

# Until there is a stream, it is looked for so often: READY is told at once.
_LOOK_S = 0.2


class Notifier:
    """Who speaks to systemd for one daemon."""

    def __init__(self, vitals: Vitals, *, silent: bool = False) -> None:
        """`silent`: say nothing, whatever the environment asks for."""
        self._vitals = vitals
        self._address = "" if silent else os.environ.get("NOTIFY_SOCKET", "")
        watchdog_us = os.environ.get("WATCHDOG_USEC", "")
        ours = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._watchdog_s = int(watchdog_us) / 1e6 if watchdog_us.isdigit() and ours else math.inf
        self._interval_s = min(STATUS_INTERVAL_S, self._watchdog_s / 4)
        self._ready = False
        self._hung = False
        self._unheard = False

    async def run(self) -> None:
        """Speak now and then, until cancelled."""
        while self._address:
            self.speak()
            await self._rest()

    async def _rest(self) -> None:
        """Wait until it is time to speak again."""
        if self._ready:
            await asyncio.sleep(self._interval_s)
            return
        until = monotonic() + self._interval_s
        while True:
            await asyncio.sleep(min(_LOOK_S, self._interval_s))
            if self._vitals.streams or monotonic() > until:
                return

    def speak(self) -> None:
        """Say how things are."""
        moment = now()
        said = [f"STATUS={self._status(moment)}"]
        ready = self._vitals.streams and not self._ready
        if ready:
            said.append("READY=1")
        if self._watchdog_s < math.inf and not self._hangs(moment):
            said.append("WATCHDOG=1")
        heard = self._send(*said)
        # What was not heard is said again: systemd would wait for it for ever.
        self._ready = self._ready or (ready and heard)

    def reloading(self) -> None:
        """Say that the settings are read again."""
        if self._ready:
            self._send("RELOADING=1", f"MONOTONIC_USEC={clock_gettime_ns(CLOCK_MONOTONIC) // 1000}")

    def reloaded(self) -> None:
        """Say that the settings were read."""
        if self._ready:  # else this would say that there is a stream
            self._send("READY=1")

    def stopping(self) -> None:
        """Say that the daemon ends."""
        self._send("STOPPING=1", f"STATUS={self._status(now())}")

    def _hangs(self, moment: Now) -> bool:
        problem = self._vitals.hangs(moment.at_s, self._watchdog_s / 2)
        if problem is not None and not self._hung:
            log.error("not alive: the watchdog is told nothing", extra={"problem": problem})
        self._hung = problem is not None
        return self._hung

    def _status(self, moment: Now) -> str:
        vitals = self._vitals
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

    def _send(self, *said: str) -> bool:
        """Send a datagram; return False for one that nobody takes, which is lost."""
        if not self._address:
            return False
        address = self._address
        if address.startswith("@"):
            address = "\0" + address[1:]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as ours:
            ours.setblocking(False)
            try:
                ours.sendto("\n".join(said).encode(), address)
            except OSError as ex:
                if not self._unheard:
                    log.warning("systemd cannot be told", extra={"error": ex.strerror or str(ex)})
                self._unheard = True
                return False
        self._unheard = False
        return True

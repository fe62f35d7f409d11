"""What a process uses, read from /proc while it runs: peak of resident memory, CPU time."""

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")

# Fields of /proc/PID/stat behind the program's name, which may hold spaces (manual, proc(5)).
_UTIME, _STIME = 11, 12


@dataclass(slots=True)
class Usage:
    """As last seen; a process that has ended shows nothing any more."""

    peak_rss_bytes: int = 0
    cpu_s: float = 0.0

    def sample(self, pid: int) -> None:
        """Look again; the peak is the kernel's own, so that nothing between two looks is lost."""
        folder = Path("/proc", str(pid))
        try:
            status = (folder / "status").read_text()
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return
        for line in status.splitlines():
            if line.startswith("VmHWM:"):
                self.peak_rss_bytes = int(line.split()[1]) << 10
        self.cpu_s = (int(fields[_UTIME]) + int(fields[_STIME])) / _TICKS

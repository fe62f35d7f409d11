"""What processes use, read from /proc while they run: peak of resident memory, CPU time."""

import os
from dataclasses import dataclass, field
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


@dataclass(slots=True)
class Processes:
    """Processes by what they are for; they come and go, and those that went count too."""

    _usages: dict[str, dict[int, Usage]] = field(default_factory=dict)
    _before: dict[int, float] = field(default_factory=dict)

    def begin(self) -> None:
        """Count from here on: what was seen so far is what it took to start."""
        for usages in self._usages.values():
            self._before |= {pid: usage.cpu_s for pid, usage in usages.items()}

    def sample(self, part: str, pids: list[int]) -> None:
        """Look at the processes of a part, and at those seen before."""
        usages = self._usages.setdefault(part, {})
        for pid in pids:
            usages.setdefault(pid, Usage())
        for pid, usage in usages.items():
            usage.sample(pid)

    def totals(self) -> dict[str, Usage]:
        """Give the sums of each part; of its peaks too, though they need not be at one time."""
        return {
            part: Usage(
                sum(one.peak_rss_bytes for one in usages.values()),
                sum(one.cpu_s - self._before.get(pid, 0.0) for pid, one in usages.items()),
            )
            for part, usages in self._usages.items()
        }

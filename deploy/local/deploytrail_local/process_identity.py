"""Processes told apart for good: a process id is used again, id and start time together are not."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from deploytrail_local import processes


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process of this machine. `started`: its start time, as the system writes it; "" if unknown."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity:
        """The identity of a process that runs now."""
        return cls(pid, _start_time(pid))

    def is_running(self) -> bool:
        """Whether this very process has not ended; a zombie has."""
        return processes.is_running(self.pid) and self.started in ("", _start_time(self.pid))

    def send(self, number: signal.Signals) -> None:
        """Send a signal if it runs."""
        if self.is_running():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def end(self, *, grace: float) -> bool:
        """SIGTERM, and SIGKILL after `grace` seconds. Whether it has ended."""
        self.send(signal.SIGTERM)
        if not processes.wait_until(lambda: not self.is_running(), seconds=grace):
            self.send(signal.SIGKILL)
        return processes.wait_until(lambda: not self.is_running(), seconds=5.0)


def _start_time(pid: int) -> str:
    if sys.platform == "linux":
        with contextlib.suppress(OSError, IndexError):
            # Field 22 of proc_pid_stat(5), counted behind the name, which may hold spaces.
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        return ""
    shown = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return shown.stdout.strip()

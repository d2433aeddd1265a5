"""How long something takes by itself, on a machine that does much besides.

The seconds for which a process was ready to run while the machine ran others are taken off, and of several
times the quickest counts: what else the machine does only ever adds.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

# For a script that imports time: prints when it is, and for how long its process has waited for a processor so far.
SAY_NOW = """
try:
    waited = int(open("/proc/self/schedstat").read().split()[1]) / 1e9
except OSError:
    waited = 0.0
print(time.time(), waited, flush=True)
"""


@dataclass(frozen=True)
class Timed:
    """A process that has ended. `seconds` that it took; `after_said`: of these, those since what it said by SAY_NOW."""

    code: int
    stdout: str
    stderr: str
    seconds: float
    after_said: float


def timed(argv: Sequence[str], env: dict[str, str]) -> Timed:
    """Run a command to its end."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.time()
        process = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        try:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            ended, waited = time.time(), _waited(process.pid)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        out.seek(0)
        err.seek(0)
        stdout, stderr = out.read().decode(), err.read().decode()
    said, before = map(float, stdout.split()[-2:]) if "\n" in stdout and SAY_NOW in argv[-1] else (began, 0.0)
    return Timed(process.returncode, stdout, stderr, ended - began - waited, ended - said - (waited - before))


def quickest(act: Callable[[], float], *, at_most: float, times: int = 8) -> float:
    """The least of what `act` says, in seconds; it is not asked again once that is `at_most`."""
    least = act()
    for _ in range(times - 1):
        if least <= at_most:
            break
        least = min(least, act())
    return least


def seconds_of(act: Callable[[], object]) -> float:
    """How long `act` takes, whatever else the machine does."""
    began = time.monotonic()
    act()
    return time.monotonic() - began


def _waited(pid: int) -> float:
    """Seconds for which a process's first thread waited for a processor; 0.0 where the system does not tell.

    https://docs.kernel.org/scheduler/sched-stats.html: the second number of /proc/<pid>/schedstat, in ns.
    """
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0

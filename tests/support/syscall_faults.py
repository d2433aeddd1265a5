"""Faults at system calls, by strace: a child does something, and its Nth call of a kind fails or kills it.

The child is forked from the test and waits until strace holds it, so that calls are counted from the
first one that matters: https://strace.io, `-e inject=`.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

# What changes files, and what makes the change durable.
CALLS = (
    "openat,write,pwrite64,writev,fsync,fdatasync,fchmod,chmod,ftruncate,link,linkat,unlink,unlinkat,"
    "rename,renameat,renameat2,mkdir,mkdirat,close"
)


@dataclass(frozen=True, slots=True)
class Fault:
    """The Nth call of a kind, from 1, fails with an error, or ends the process before it is done."""

    call: str
    number: int
    what: str  # EIO, ENOSPC or SIGKILL

    def __str__(self) -> str:
        return f"{self.what} at {self.call} {self.number}"

    @property
    def option(self) -> str:
        """As strace wants it."""
        kind = "signal" if self.what.startswith("SIG") else "error"
        return f"inject={self.call}:{kind}={self.what}:when={self.number}"


def require_strace() -> str:
    """The program; skips where there is none, or where it may not look into a child."""
    program = shutil.which("strace")
    if program is None:
        pytest.skip("strace is missing: apt-get install strace")
    tried = subprocess.run([program, "-o", os.devnull, "true"], capture_output=True, text=True, timeout=60)
    if tried.returncode:
        pytest.skip(f"strace may not trace here: {tried.stderr[-200:]}")
    return program


def calls_of(act: Callable[[], None], folder: Path) -> list[tuple[str, int]]:
    """Every call of `act` in order, each with its number among those of its kind."""
    status, log = _traced(act, folder, [])
    assert status == 0, log
    counted: Counter[str] = Counter()
    found = []
    for call in re.findall(r"^(?:\d+ +)?(\w+)\(", log, re.MULTILINE):
        counted[call] += 1
        found.append((call, counted[call]))
    return found


def with_fault(act: Callable[[], None], folder: Path, fault: Fault) -> int:
    """Run `act` in a child that meets a fault; its exit code, or minus the signal that ended it."""
    status, log = _traced(act, folder, ["-e", fault.option])
    assert "(INJECTED)" in log or "killed by SIGKILL" in log, f"{fault} was not met:\n{log}"
    return status


def _traced(act: Callable[[], None], folder: Path, options: list[str]) -> tuple[int, str]:
    log = folder / "strace.log"
    log.unlink(missing_ok=True)
    gate, opened = os.pipe()
    child = os.fork()
    if child == 0:
        _child(act, gate)
    os.close(gate)
    strace = subprocess.Popen(
        [require_strace(), "-p", str(child), "-o", str(log), "-e", f"trace={CALLS}", *options],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert strace.stderr is not None
        said = strace.stderr.readline()
        if "attached" not in said:
            pytest.skip(f"strace may not attach to a child: {said}")
        os.write(opened, b"g")
        _, status = os.waitpid(child, 0)
        child = 0
        strace.wait(60)
    finally:
        os.close(opened)
        if child:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        if strace.poll() is None:
            strace.kill()
        strace.communicate()
    return os.waitstatus_to_exitcode(status), log.read_text()


def _child(act: Callable[[], None], gate: int) -> None:
    """Never returns, and runs nothing of what the test's process does at its end."""
    code = 1
    try:
        os.read(gate, 1)
        act()
        code = 0
    except BaseException:
        sys.stderr.write(traceback.format_exc())
    finally:
        os._exit(code)

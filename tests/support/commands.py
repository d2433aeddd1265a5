"""The product's commands as child processes of a test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

BIN = Path(sys.executable).parent
DEPLOYTRAIL = (str(BIN / "deploytrail"),)


class Command:
    """A long-running command; what it says on standard error is kept."""

    def __init__(self, *argv: str, env: dict[str, str], cwd: Path, program: Sequence[str] = DEPLOYTRAIL) -> None:
        self.process = subprocess.Popen(
            [*program, *argv],
            env={**os.environ, **env},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if "ready" in line:
                self._ready.set()
        self._ready.set()

    def wait_ready(self, seconds: float = 120.0) -> Command:
        """Return once it has said that it is ready."""
        if not self._ready.wait(seconds) or self.process.poll() is not None:
            self.kill()
            raise AssertionError(f"{self.process.args} did not become ready:\n{''.join(self.lines)[-4000:]}")
        return self

    def said(self) -> str:
        """All that it has said on standard error; of one that has ended, to its last line."""
        if self.process.poll() is not None:
            self._reader.join(10)
        return "".join(self.lines)

    def kill(self) -> None:
        """SIGKILL, and wait."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(60)

    def stop(self, seconds: float = 60.0) -> int:
        """SIGTERM, and the exit code; killed after `seconds`."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"did not stop:\n{''.join(self.lines)[-4000:]}") from None


@contextmanager
def running(*argv: str, env: dict[str, str], cwd: Path, program: Sequence[str] = DEPLOYTRAIL) -> Iterator[Command]:
    """A command that is ready, and stopped whatever the test does."""
    command = Command(*argv, env=env, cwd=cwd, program=program)
    try:
        yield command.wait_ready()
    finally:
        command.kill()


def run(
    *argv: str, env: dict[str, str], cwd: Path, seconds: float = 120.0, program: Sequence[str] = DEPLOYTRAIL
) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself."""
    return subprocess.run(
        [*program, *argv],
        env={**os.environ, **env},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def users_of(folder: Path) -> list[str]:
    """Command lines of the processes that were started for a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        try:
            words = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in words:
            found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
    return found

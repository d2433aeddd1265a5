"""This installation's own `deploytrail`, as a process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_SECONDS = 300.0  # when it hangs


def own_command(*words: str) -> list[str]:
    """The command line of `deploytrail WORDS…`: not the script in bin/, which an activated environment may shadow."""
    return [sys.executable, "-P", "-m", "deploytrail.command", *words]


def ask(
    argv: Sequence[str], environ: Mapping[str, str], *, seconds: float = _SECONDS, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, however it ends; subprocess.TimeoutExpired after so many seconds."""
    return subprocess.run(
        argv,
        env=dict(environ),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )

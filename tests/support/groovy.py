"""Jenkinsfiles, run by the Groovy that Jenkins itself uses, with what a pipeline is made of."""

from __future__ import annotations

import os
import subprocess
from base64 import b64decode
from pathlib import Path
from typing import NamedTuple

import pytest
from deploytrail_local.jars import fetched
from deploytrail_local.java import find_java
from deploytrail_schemas.errors import MissingDependencyError

# What Jenkins ships, https://www.jenkins.io/doc/developer/groovy/
GROOVY = "org.codehaus.groovy:groovy-all:2.4.21"
HARNESS = Path(__file__).parent / "jenkins.groovy"


class Shell(NamedTuple):
    """A shell command that a pipeline runs, with the variables of its `environment`."""

    file: str
    command: str
    variables: dict[str, str]


def shell_steps(library: Path, *files: Path) -> list[Shell]:
    """What each Jenkinsfile hands to `sh`, in order; steps of the library in `library` are run."""
    done = subprocess.run(
        [*_groovy(), HARNESS, library, *files], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [[b64decode(word).decode() for word in line.split()] for line in done.stdout.splitlines()]
    return [Shell(Path(path).name, command, dict(v.split("=", 1) for v in rest)) for path, _, command, *rest in lines]


def _groovy() -> list[str]:
    try:
        java = find_java()
        jars = [str(jar) for jar in fetched(GROOVY)]
    except MissingDependencyError as error:
        pytest.skip(str(error))
    return [str(java), "-XX:TieredStopAtLevel=1", "-cp", os.pathsep.join(jars), "groovy.ui.GroovyMain"]

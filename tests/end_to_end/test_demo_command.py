"""`deploytrail demo` as a person starts it: it answers with its exit code and leaves nothing running.

What it does without a terminal is in test_first_day.py.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from deploytrail_local.java import find_java
from deploytrail_schemas.errors import MissingDependencyError
from support.commands import users_of

DEMO = (sys.executable, "-m", "deploytrail.command", "demo")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A folder whose path appears in the command line or environment of all that the demo starts."""
    try:
        find_java()
    except MissingDependencyError as error:
        pytest.skip(str(error))
    yield tmp_path / "demo"
    assert users_of(tmp_path / "demo") == []


def _environ(home: Path) -> dict[str, str]:
    return {**os.environ, "DEPLOYTRAIL_HOME": str(home.parent / "unused")}


def test_demo_that_is_interrupted_leaves_nothing_running(home: Path) -> None:
    demo = subprocess.Popen(
        [*DEMO, "--home", str(home)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=_environ(home)
    )
    try:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "the stack is ready" in line:
                break
        demo.send_signal(signal.SIGTERM)
        code = demo.wait(120)
    finally:
        if demo.poll() is None:
            demo.kill()
            demo.wait()
        assert demo.stdout is not None
        demo.stdout.close()

    assert code == 130


@pytest.mark.timeout(900)
def test_demo_at_a_terminal_keeps_running_until_ctrl_c(home: Path) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(DEMO[0], [*DEMO, "--home", str(home), "--seed", "8"], _environ(home))
    said = b""
    try:
        said = _read_until(terminal, b"Ctrl-C stops everything.")
        url = re.search(rb"curl '(http://[^']+)'", said)
        assert url is not None
        query = urllib.request.Request(url[1].decode(), b"SELECT count() FROM deployments")
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(query, timeout=60) as response:
            deployments = int(response.read())
        os.write(terminal, b"\x03")
        said += _read_until(terminal, b"")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        _, status = os.waitpid(pid, 0)
        os.close(terminal)

    assert os.waitstatus_to_exitcode(status) == 0, said.decode("utf-8", "replace")[-3000:]
    assert b"Everything planted was found" in said
    assert deployments >= 380


def _read_until(terminal: int, mark: bytes) -> bytes:
    """What a terminal shows until a mark, or until its program has ended."""
    said = b""
    while not mark or mark not in said:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # Linux: the other side is closed
            piece = b""
        if not piece:
            break
        said += piece
    return said


def test_demo_does_not_empty_a_folder_that_is_not_its_own(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    began = time.monotonic()
    done = subprocess.run(
        [*DEMO, "--home", str(precious)], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )

    assert done.returncode == 69
    assert "not the demo's" in done.stderr
    assert (precious / "thesis.txt").read_text() == "years of work"
    assert time.monotonic() - began < 60  # nothing is started

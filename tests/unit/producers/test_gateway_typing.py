"""The public API is typed: what users write is accepted by mypy --strict, and their slips are refused.

Beside the gateway's tests, which run where the workspace with its type checker is installed.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).parent / "typing_cases"
ROOMS = Path(__file__).parent.parent.parent.parent


def _mypy(file: Path, cache: Path) -> list[tuple[int, str]]:
    """(line, code) of every error."""
    words = ["--strict", "--no-error-summary", "--show-error-codes", "--no-color-output", "--cache-dir", str(cache)]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file=", *words, str(file)],
        env={"MYPYPATH": f"{ROOMS / 'producers'}:{ROOMS / 'schemas'}", "PATH": "/usr/bin:/bin"},
        cwd=cache,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    found = re.findall(rf"{file.name}:(\d+): error: .*\[([\w-]+)\]$", done.stdout, re.MULTILINE)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    assert (done.returncode == 0) == (not found), done.stdout
    return [(int(line), code) for line, code in found]


@pytest.mark.requirement("M2.2")
def test_what_users_write_is_typed_as_it_is_promised(tmp_path: Path) -> None:
    assert _mypy(CASES / "users_script.py", tmp_path) == []


@pytest.mark.requirement("M2.2")
def test_wrong_names_and_values_are_refused_by_the_type_checker(tmp_path: Path) -> None:
    lines = (CASES / "users_mistakes.py").read_text().splitlines()
    expected = [(n, line.rpartition("# expect: ")[2]) for n, line in enumerate(lines, 1) if "# expect: " in line]

    assert len(expected) == 14
    assert _mypy(CASES / "users_mistakes.py", tmp_path) == expected

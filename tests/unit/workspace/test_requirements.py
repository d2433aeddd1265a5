"""Which rows of the requirements no test names: a report, not a failure."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

TESTS = Path(__file__).parents[2]
ROWS = [f"M{module}.{row}" for module, count in enumerate((6, 6, 6, 6, 6, 6, 6, 6), 1) for row in range(1, count + 1)]
MARK = re.compile(r"mark\.requirement\(([^)]*)\)")


def named_rows() -> set[str]:
    """Rows that some test's requirement mark names."""
    found: set[str] = set()
    for path in TESTS.rglob("test_*.py"):
        for arguments in MARK.findall(path.read_text("utf-8")):
            found.update(re.findall(r"M\d\.\d", arguments))
    return found


def test_requirement_rows_without_a_test_are_listed() -> None:
    named = named_rows()
    missing = [row for row in ROWS if row not in named]
    if missing:
        warnings.warn(f"{len(missing)} of {len(ROWS)} requirement rows have no test: {' '.join(missing)}", stacklevel=1)

    assert named <= set(ROWS), "a test names a row that does not exist"

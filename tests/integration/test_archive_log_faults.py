"""File system calls of sequencer, signer and publisher fail, one a run: the log is whole, and no size has two roots.

Some of them by default, DEPLOYTRAIL_CHAOS=full: each.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from deploytrail_schemas.errors import RetryLater
from deploytrail_sinks.archive.store import LocalFolder
from support.archive_log import ORIGIN, Published, fill, published
from support.syscall_faults import Fault, calls_of, require_strace, with_fault

# Where to begin, and how far to the next.
STEPS = {"EIO": (0, 3), "ENOSPC": (1, 3), "SIGKILL": (0, 2)}


def publish(folder: Path) -> Published:
    """Enter what is archived, sign it, publish it: as the services do, who try again where they are told to."""
    try:
        return published(folder / "signer", LocalFolder(folder / "archive"))
    except RetryLater:
        return published(folder / "signer", LocalFolder(folder / "archive"))


def signed_roots(folder: Path) -> dict[int, set[str]]:
    """The roots of each size, of everything anywhere that has the shape of a checkpoint."""
    found: dict[int, set[str]] = {}
    for path in [p for p in folder.rglob("*") if p.is_file()]:
        lines = path.read_bytes().decode("utf-8", "replace").split("\n")
        for at in range(len(lines) - 2):
            if lines[at + 1].isdigit() and len(lines[at + 2]) == 44 and lines[at] == ORIGIN:
                found.setdefault(int(lines[at + 1]), set()).add(lines[at + 2])
    return found


@pytest.mark.requirement("M5.1")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("what", ["EIO", "ENOSPC", "SIGKILL"])
def test_no_fault_of_a_call_makes_two_roots_of_one_size(what: str, tmp_path: Path) -> None:
    require_strace()
    template = tmp_path / "template"
    fill(LocalFolder(template / "archive"), range(6))
    publish(template)  # a log that has a past, for which keys and modules are loaded
    fill(LocalFolder(template / "archive"), range(6, 10))
    shutil.copytree(template, tmp_path / "sound")
    calls = calls_of(lambda: (publish(tmp_path / "sound"), None)[1], tmp_path)
    assert len(signed_roots(tmp_path / "sound")) == 2
    begin, step = (0, 1) if os.environ.get("DEPLOYTRAIL_CHAOS") == "full" else STEPS[what]
    met = 0
    for number, (call, nth) in enumerate(calls[begin::step]):
        folder, fault = tmp_path / f"{number}", Fault(call, nth, what)
        shutil.copytree(template, folder)
        with_fault(lambda f=folder: (publish(f), None)[1], tmp_path, fault)  # type: ignore[misc]
        met += 1
        roots = signed_roots(folder)
        log = publish(folder)  # the restart
        after = signed_roots(folder)
        fill(LocalFolder(folder / "archive"), range(10, 12))
        log = publish(folder)

        for size, found in {**after, **signed_roots(folder)}.items():
            assert len(found | roots.get(size, set())) == 1, (fault, size)
        assert log.check()[0].flaws == [], fault
        shutil.rmtree(folder)
    assert met >= 20

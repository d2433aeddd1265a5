"""Every file system call of a commit fails once, by EIO, by ENOSPC and by SIGKILL: the archive is whole after each."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from deploytrail_schemas.errors import RetryLater
from deploytrail_sinks.archive.partition import PartitionArchive
from deploytrail_sinks.archive.raw_records import Record
from deploytrail_sinks.archive.segment import read_segment
from deploytrail_sinks.archive.store import LocalFolder
from deploytrail_sinks.archive.verify import verify
from support.syscall_faults import Fault, calls_of, require_strace, with_fault
from support.values import NOON


def record(offset: int) -> Record:
    return Record(offset, NOON // 1000 + offset, 1, b"k", b"value %d" % offset, (("h", None),))


def commit(folder: Path, last: int = 3, patience: int = 3) -> None:
    """What the sink does with a range: take it, store it, try again where the store says so."""
    archive = PartitionArchive(LocalFolder(folder), "deploytrail.events", 1, frozenset())
    for attempt in range(patience):
        try:
            archive.resume(0)
            break
        except RetryLater:
            if attempt == patience - 1:
                raise
    for offset in range(last):
        archive.add(record(offset))
    for attempt in range(patience):
        try:
            archive.close_segments()
            return
        except RetryLater:
            if attempt == patience - 1:
                raise


def offsets_in(folder: Path) -> list[int]:
    store = LocalFolder(folder)
    return [r.offset for name in store.list("") for r in read_segment(store.read(name)).records]


@pytest.mark.requirement("M5.1")
@pytest.mark.parametrize("what", ["EIO", "ENOSPC", "SIGKILL"])
def test_a_commit_is_whole_after_a_fault_at_any_of_its_calls(what: str, tmp_path: Path) -> None:
    require_strace()
    commit(tmp_path / "warm")  # what is imported and cached at first use is no part of a commit
    calls = calls_of(lambda: commit(tmp_path / "sound"), tmp_path)
    assert {"openat", "write", "fsync", "fchmod", "link", "unlink", "mkdir", "close"} <= {call for call, _ in calls}
    met = 0
    for number, (call, nth) in enumerate(calls):
        folder, fault = tmp_path / f"{number}", Fault(call, nth, what)
        status = with_fault(lambda f=folder: commit(f), tmp_path, fault)  # type: ignore[misc]
        met += 1

        assert status == (-9 if what == "SIGKILL" else 0), fault
        commit(folder, 5)  # the restart, which has read on
        assert offsets_in(folder) == [0, 1, 2, 3, 4], fault
        assert verify(LocalFolder(folder)).flaws == [], fault
    assert met >= 20


def test_what_a_crash_leaves_is_synced_before_it_is_relied_on(tmp_path: Path) -> None:
    """A writer died between the link and the sync of its folder: whoever finds the object syncs the folder."""
    require_strace()
    commit(tmp_path / "a")
    again = calls_of(lambda: commit(tmp_path / "a"), tmp_path)

    assert "fsync" in [call for call, _ in again]


def test_every_new_folder_is_made_durable(tmp_path: Path) -> None:
    require_strace()
    calls = [call for call, _ in calls_of(lambda: commit(tmp_path / "deep" / "er"), tmp_path)]
    made = [at for at, call in enumerate(calls) if call == "mkdir"]

    assert len(made) == 5  # deep, er, the topic, the partition, the class
    for this, following in itertools.pairwise([*made, len(calls)]):
        assert "fsync" in calls[this:following]

"""Many objects of the log at once: all of them are there, or whoever asked is told what is wrong."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from deploytrail_schemas.errors import RetryLater
from deploytrail_sinks.archive.log import objects
from deploytrail_sinks.archive.log.objects import LogConflict, create_all
from deploytrail_sinks.archive.store import USUAL, LocalFolder, Terms

UNTIL = "2034-01-01T00:00:00Z"
SEVERAL = [(f"log/tile/{number // 256:03}/{number:03}", b"%d" % number) for number in range(700)]


class Failing(LocalFolder):
    """Cannot write one of them; what comes behind that waits until it may go on."""

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(folder)
        self.name = name
        self.created: set[str] = set()
        self.may_go_on = threading.Event()
        self._lock = threading.Lock()

    def create(self, name: str, data: bytes, retain_until: str, terms: Terms = USUAL) -> str:
        if name == self.name:
            raise RetryLater(f"{name} cannot be written")
        if name > self.name:
            assert self.may_go_on.wait(60)
        given = super().create(name, data, retain_until, terms)
        with self._lock:
            self.created.add(name)
        return given


@pytest.mark.parametrize("count", [0, 1, 15, 700])
def test_all_are_there(count: int, tmp_path: Path) -> None:
    store = LocalFolder(tmp_path)
    create_all(store, iter(SEVERAL[:count]), UNTIL)
    create_all(store, iter(SEVERAL[:count]), UNTIL)  # as after a crash

    assert {name: store.read(name) for name in store.list("log")} == dict(SEVERAL[:count])


@pytest.mark.parametrize("count", [15, 700])
def test_one_with_other_bytes_is_a_conflict(count: int, tmp_path: Path) -> None:
    store = LocalFolder(tmp_path)
    name = SEVERAL[count // 2][0]
    store.create(name, b"another", UNTIL)

    with pytest.raises(LogConflict, match=name):
        create_all(store, SEVERAL[:count], UNTIL)


def test_where_one_cannot_be_written_nothing_is_begun_or_under_way_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Failing(tmp_path, SEVERAL[3][0])

    class Threads(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            store.may_go_on.set()  # the failure is known
            super().shutdown(wait, cancel_futures=cancel_futures)

    monkeypatch.setattr(objects, "ThreadPoolExecutor", Threads)
    with pytest.raises(RetryLater, match=store.name):
        create_all(store, SEVERAL, UNTIL)

    assert {name for name, _ in SEVERAL[:3]} <= store.created
    assert len(store.created) <= 3 + objects._AT_ONCE
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("create")] == []
    create_all(LocalFolder(tmp_path), SEVERAL, UNTIL)
    assert store.read(store.name) == b"3"

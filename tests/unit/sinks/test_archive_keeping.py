"""What is said to be kept is kept: through faults of the disk, and with all that its proofs need."""

from __future__ import annotations

import errno
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from deploytrail_schemas.errors import RetryLater
from deploytrail_sinks.archive.lengthen_command import Moved, lengthen
from deploytrail_sinks.archive.log.names import CHECKPOINT
from deploytrail_sinks.archive.log.objects import kept_until
from deploytrail_sinks.archive.partition import PartitionArchive
from deploytrail_sinks.archive.raw_records import Record
from deploytrail_sinks.archive.retention import read_policy
from deploytrail_sinks.archive.store import LocalFolder, Lock, Terms
from deploytrail_sinks.archive.verify import verify
from support.archive_log import published, value
from support.values import NOON

YEAR_2020 = 1_577_836_800_000


def fill(store: LocalFolder, offsets: range, policy: str) -> None:
    archive = PartitionArchive(store, "deploytrail.events", 1, frozenset(), policy=read_policy(policy))
    archive.resume()
    for offset in offsets:
        archive.add(Record(offset, YEAR_2020 + offset, 1, b"k", value(offset), ()))
    archive.close_segments()


@pytest.fixture
def store(tmp_path: Path) -> LocalFolder:
    return LocalFolder(tmp_path / "archive")


class TestFaultsOfTheFolder:
    """What stands beside an object and cannot be read is waited for: it may say more than whoever asks would write."""

    @pytest.fixture
    def kept(self, store: LocalFolder) -> str:
        store.create("a/1", b"x", "2030-01-01T00:00:00Z", Terms(Lock.COMPLIANCE))
        store.lengthen("a/1", "2050-01-01T00:00:00Z")
        return "a/1"

    @pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.EACCES])
    def test_no_date_is_shortened_while_it_cannot_be_read(
        self, store: LocalFolder, kept: str, number: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def unreadable(path: Path) -> bytes:
            raise OSError(number, os.strerror(number), str(path))

        with monkeypatch.context() as broken:
            broken.setattr(Path, "read_bytes", unreadable)
            for ask in (lambda: store.lengthen(kept, "2031-01-01T00:00:00Z"), lambda: store.retain_until(kept)):
                with pytest.raises(RetryLater, match=os.strerror(number)):
                    ask()

        assert json.loads((store.folder / f"{kept}.retain").read_text()) == {
            "lock": "compliance",
            "retain_until": "2050-01-01T00:00:00Z",
        }

    def test_a_hold_that_cannot_be_looked_for_lets_nothing_go(
        self, store: LocalFolder, kept: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.hold(kept, True)

        lstat = Path.lstat

        def unseen(path: Path) -> os.stat_result:
            if path.suffix != ".hold":
                return lstat(path)
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

        with monkeypatch.context() as broken:
            broken.setattr(Path, "lstat", unseen)
            with pytest.raises(RetryLater, match=r"\.hold cannot be looked for"):
                store.delete(kept, datetime(2060, 1, 1, tzinfo=UTC))

        assert store.is_held(kept) and store.read(kept) == b"x"

    def test_a_date_that_was_lost_comes_back_as_it_was_promised(self, store: LocalFolder) -> None:
        fill(store, range(10), policy="production=5000,non-production=5000")
        for name in store.list(""):
            (store.folder / f"{name}.retain").unlink()

        assert lengthen(store, read_policy("production=10,non-production=10")) == Moved(2, 0)
        assert {store.retain_until(name) for name in store.list("")} == {"2033-09-10T00:00:00Z"}
        assert verify(store).flaws == []


@pytest.mark.requirement("M5.5")
def test_the_log_is_kept_as_long_as_what_it_proves(store: LocalFolder, tmp_path: Path) -> None:
    fill(store, range(20), policy="production=5000")
    log = published(tmp_path / "signer", store, policy=read_policy("production=5000"))
    by_policy = {store.retain_until(name) for name in store.list("log/checkpoints")}
    lengthen(store, read_policy("production=9000"))
    of_log = [name for name in store.list("log") if name != CHECKPOINT]

    assert kept_until(NOON / 1e6) == "2033-12-09T00:00:00Z"
    assert kept_until(NOON / 1e6, read_policy("production=5000")) == "2040-07-13T00:00:00Z"
    assert by_policy == {"2040-07-13T00:00:00Z"}
    assert {store.retain_until(name) for name in of_log} == {"2044-08-23T00:00:00Z"}
    assert log.check()[0].flaws == []

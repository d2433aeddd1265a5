"""Archives whose records are of today, for stores that ask their own clock; and how firmly a store keeps an object."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from deploytrail_sinks.archive.partition import PartitionArchive
from deploytrail_sinks.archive.retention import read_policy
from deploytrail_sinks.archive.s3 import S3Store
from deploytrail_sinks.archive.segment import Record
from deploytrail_sinks.archive.store import LocalFolder, Lock, ObjectStore

from support.archive_log import TOPIC

TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def in_days(days: int) -> str:
    return (TODAY + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")


def archive_of(store: ObjectStore, offsets: range, *, days_ago: int = 0, policy: str = "", **more: Any) -> None:
    archive = PartitionArchive(store, TOPIC, 1, frozenset(), policy=read_policy(policy), **more)
    archive.resume()
    at = int((TODAY - timedelta(days=days_ago)).timestamp() * 1000)
    for offset in offsets:
        archive.add(Record(offset, at, 1, b"k", b"no record %d" % offset, (("h", None),)))
        if offset % 5 == 4:
            archive.close_segments()
    archive.close_segments()


def lock_of(store: ObjectStore, name: str) -> Lock:
    """How firmly the store says that it keeps an object."""
    if isinstance(store, S3Store):
        return store._kept(name).lock
    assert isinstance(store, LocalFolder)
    return Lock(store._kept(name)["lock"])
